"""The cache that remembers nothing: what CACHE_ENABLED=false means."""

from typing import override

from seawall_service.cache.interface import Cache, Lookup


class NoopCache(Cache):
    @override
    async def look_up(self, key: str) -> Lookup:
        return Lookup()

    @override
    async def fill(self, key: str, value: bytes, lease: str, *, at_most_seconds: int) -> None:
        """Forgets it."""

    @override
    async def delete(self, key: str) -> None:
        """There is nothing."""
