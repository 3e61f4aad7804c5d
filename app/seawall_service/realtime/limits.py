"""How many sockets there are, of a user, on a document and altogether: over all workers through leases in Valkey (C22).

Each worker keeps one hash with its own counts, which expires unless the worker renews it: the counts of a killed worker
go with it. Without Valkey each worker allows its share of the limits.
"""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from uuid import UUID, uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from seawall_service.realtime.bus import create_lasting_task
from seawall_service.realtime.valkey import PREFIX

log = structlog.get_logger(__name__)

LEASE_SECONDS = 15.0
HEARTBEAT_SECONDS = 5.0
ALL = "all"

# KEYS: the set of the workers. ARGV: own id, own key's prefix, lease in ms, then of each count: its name, its limit, our own.
JOIN = """
local sums = {}
for i = 0, 2 do sums[i] = tonumber(ARGV[6 + i * 3]) end
for _, worker in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if worker ~= ARGV[1] then
    local counts = redis.call('HMGET', ARGV[2] .. worker, ARGV[4], ARGV[7], ARGV[10])
    if not counts[1] then redis.call('SREM', KEYS[1], worker) end
    for i = 0, 2 do sums[i] = sums[i] + tonumber(counts[i + 1] or 0) end
  end
end
for i = 0, 2 do
  if sums[i] >= tonumber(ARGV[5 + i * 3]) then return ARGV[4 + i * 3] end
end
local own = ARGV[2] .. ARGV[1]
redis.call('SADD', KEYS[1], ARGV[1])
for i = 0, 2 do redis.call('HSET', own, ARGV[4 + i * 3], ARGV[6 + i * 3] + 1) end
redis.call('PEXPIRE', own, ARGV[3])
return false
"""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    enabled: bool
    per_user: int
    per_room: int
    total: int
    workers: int


def counted_names(user_id: UUID, document_id: UUID) -> tuple[str, str, str]:
    return ALL, f"user:{user_id}", f"room:{document_id}"


class SocketCounts:
    """Counts sockets, and says which limit another one would pass. `client` is None where no Valkey is configured."""

    def __init__(self, limits: SocketLimits, client: Redis | None, lease_seconds: float = LEASE_SECONDS) -> None:
        self.limits = limits
        self.local: Counter[str] = Counter()
        self.worker_id = uuid4().hex
        self._client = client if limits.enabled else None
        self._lease_seconds = lease_seconds
        self._join = self._client.register_script(JOIN) if self._client else None
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()
        self._degraded = False
        self.keeper: asyncio.Task[None] | None = None

    def _limit_of(self, name: str) -> int:
        if name == ALL:
            return self.limits.total
        return self.limits.per_user if name.startswith("user:") else self.limits.per_room

    async def enter(self, user_id: UUID, document_id: UUID) -> str | None:
        """None when the socket is counted; else the name of the limit: all, user:… or room:…"""
        names = counted_names(user_id, document_id)
        if not self.limits.enabled:
            self.local.update(names)
            return None
        async with self._one_at_a_time:
            refused = await self._ask_valkey(names) if self._client and not self._degraded else self._ask_locally(names)
            if refused is None:
                self.local.update(names)
        if self._client and self.keeper is None:
            self.keeper = create_lasting_task(self._keep_lease)
        return refused

    def leave(self, user_id: UUID, document_id: UUID) -> None:
        """Never waits, so that it is done on every way out; the lease follows a moment later."""
        for name in counted_names(user_id, document_id):
            self.local[name] -= 1
            if self.local[name] <= 0:
                del self.local[name]
        self._changed.set()

    def _ask_locally(self, names: tuple[str, ...]) -> str | None:
        shares = {name: max(1, self._limit_of(name) // self.limits.workers) for name in names}
        return next((name for name in names if self.local[name] >= shares[name]), None)

    async def _ask_valkey(self, names: tuple[str, ...]) -> str | None:
        if self._join is None:
            return self._ask_locally(names)
        counts = [part for name in names for part in (name, self._limit_of(name), self.local[name])]
        arguments = [self.worker_id, f"{PREFIX}counts:", int(self._lease_seconds * 1000), *counts]
        try:
            refused = await self._join(keys=[f"{PREFIX}workers"], args=arguments)
        except (RedisError, OSError) as error:
            self._degrade(error)
            return self._ask_locally(names)
        return refused.decode() if refused else None

    def _degrade(self, error: Exception) -> None:
        if not self._degraded:
            self._degraded = True
            log.warning("ws_limits.degraded", reason=type(error).__name__, workers=self.limits.workers)

    async def _keep_lease(self) -> None:
        """Writes the counts whenever they fell, and renews the lease; the first write after an outage ends it."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._lease_seconds * HEARTBEAT_SECONDS / LEASE_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._write_lease()
            except (RedisError, OSError) as error:
                self._degrade(error)
                await asyncio.sleep(1)

    async def _write_lease(self) -> None:
        if self._client is None:
            return
        own = f"{PREFIX}counts:{self.worker_id}"
        async with self._one_at_a_time, self._client.pipeline(transaction=True) as pipeline:
            pipeline.delete(own)
            if self.local:
                pipeline.hset(own, mapping={name: str(count) for name, count in self.local.items()})
                pipeline.pexpire(own, int(self._lease_seconds * 1000))
                pipeline.sadd(f"{PREFIX}workers", self.worker_id)
            else:
                pipeline.srem(f"{PREFIX}workers", self.worker_id)
            await pipeline.execute()
        if self._degraded:
            self._degraded = False
            log.info("ws_limits.restored")

    async def close(self) -> None:
        if self.keeper is None:
            return
        self.keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.keeper
        self.local.clear()
        with contextlib.suppress(RedisError, OSError):
            await self._write_lease()
