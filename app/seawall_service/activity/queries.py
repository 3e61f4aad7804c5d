"""What can be asked to be read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GetActivity:
    """What the answering container is, and what it has answered since it started."""
