"""What can be asked to be read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GetMe:
    """The caller's own user."""
