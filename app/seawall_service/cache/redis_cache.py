"""The cache in REDIS_URL, shared by all workers and all containers."""

import secrets
import time
from collections.abc import Awaitable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from seawall_service.cache.interface import Lookup

log = structlog.get_logger(__name__)

VALUE = b"="
LEASE = b"?"
LEASE_BYTES = 16
# Longer than a read of the database takes. Until it ends, others who miss read for themselves.
LEASE_MILLISECONDS = 5_000
# Look-ups that do not wait for a server which just failed; deletions always try.
PAUSE_SECONDS = 1.0
FAILED = object()
FILL = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) and 1 or 0"


class RedisCache:
    def __init__(self, client: Redis, prefix: str, default_ttl_seconds: int) -> None:
        self._client = client
        self._prefix = prefix
        self._default_ttl_seconds = default_ttl_seconds
        self._ask_again_at = 0.0

    async def look_up(self, key: str) -> Lookup:
        if time.monotonic() < self._ask_again_at:
            return Lookup()
        lease = secrets.token_hex(LEASE_BYTES)
        # One command: what is there, and our lease if nothing is.
        found = await self._try(
            self._client.set(self._prefix + key, LEASE + lease.encode(), nx=True, get=True, px=LEASE_MILLISECONDS), "look_up"
        )
        if found is FAILED or (isinstance(found, bytes) and not found.startswith(VALUE)):
            return Lookup()
        return Lookup(value=found[len(VALUE) :]) if isinstance(found, bytes) else Lookup(lease=lease)

    async def fill(self, key: str, value: bytes, lease: str, *, at_most_seconds: int) -> None:
        milliseconds = 1000 * min(self._default_ttl_seconds, at_most_seconds)
        await self._try(
            self._client.eval(FILL, 1, self._prefix + key, LEASE + lease.encode(), VALUE + value, milliseconds), "fill"
        )

    async def delete(self, key: str) -> None:
        await self._try(self._client.delete(self._prefix + key), "delete")

    async def _try(self, command: Awaitable[object], operation: str) -> object:
        try:
            return await command
        except (RedisError, OSError) as error:
            self._ask_again_at = time.monotonic() + PAUSE_SECONDS
            log.warning("cache.error", operation=operation, reason=type(error).__name__)
            return FAILED
