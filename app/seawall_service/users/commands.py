"""What can be asked to change."""

from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class CreateUser:
    username: str
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UpdateUser:
    user_id: UUID
    display_name: str
