"""What can be asked to change."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CreateUser:
    username: str
    password_hash: str = field(repr=False)
