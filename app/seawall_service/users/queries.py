"""What can be asked to be read."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class GetMe:
    """The caller's own user."""


@dataclass(frozen=True, slots=True)
class GetUser:
    """A user as those see it who share a document with it."""

    user_id: UUID
