"""What can be asked to change."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Login:
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refresh:
    refresh_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Logout:
    refresh_token: str = field(repr=False)
