"""What a cache is: a place that may forget everything at any moment, and that nobody may wait for or fail because of.

A value that was read before a change must not be stored after it. So who misses gets a lease, and stores under it; `delete`
ends leases as well as values, and `fill` under a lease that has ended does nothing.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Lookup:
    """A value, or the lease to store one, or neither: then read, and store nothing."""

    value: bytes | None = None
    lease: str | None = None


class Cache(Protocol):
    """Nothing in here raises: what fails is a miss, and a line `cache.error` (CACHE-03)."""

    async def look_up(self, key: str) -> Lookup: ...

    async def fill(self, key: str, value: bytes, lease: str, *, at_most_seconds: int) -> None:
        """Kept for that long, or for CACHE_DEFAULT_TTL_SECONDS where that is less."""

    async def delete(self, key: str) -> None:
        """After the commit of what changed the value, and before anybody is told that it has changed."""
