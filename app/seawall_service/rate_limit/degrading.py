"""What happens when the shared backend is away (RL-11): each worker counts its share in memory, and the limits go on."""

import time
from collections.abc import Callable, Sequence
from functools import cache, partial

import structlog
from redis.exceptions import RedisError

from seawall_service.rate_limit.interface import Decision, FixedWindow, Hit, RateLimiter, TokenBucket

log = structlog.get_logger(__name__)


class DegradingRateLimiter:
    """One request in `pause_seconds` asks the shared backend again; until one is answered, all others are counted in memory.

    `report` is told 1 when that begins, and 0 when it ends.
    """

    def __init__(
        self,
        shared: RateLimiter,
        local: RateLimiter,
        *,
        workers: int,
        pause_seconds: float,
        report: Callable[[int], None],
    ) -> None:
        self._shared = shared
        self._local = local
        self._pause_seconds = pause_seconds
        self._report = report
        self._degraded = False
        self._ask_again_at = 0.0
        self._share_of: Callable[[FixedWindow | TokenBucket], FixedWindow | TokenBucket] = cache(
            partial(share_of, workers=workers)
        )
        report(0)

    async def hit(self, hits: Sequence[Hit]) -> Decision:
        now = time.monotonic()
        if self._degraded and now < self._ask_again_at:
            return await self._hit_locally(hits)
        # Before the question: whoever comes while it waits for its answer must not wait, too.
        self._ask_again_at = now + self._pause_seconds
        try:
            decision = await self._shared.hit(hits)
        except (RedisError, OSError) as error:
            self._note(degraded=True, reason=type(error).__name__)
            return await self._hit_locally(hits)
        self._note(degraded=False)
        return decision

    async def _hit_locally(self, hits: Sequence[Hit]) -> Decision:
        return await self._local.hit([Hit(hit.key, self._share_of(hit.rule)) for hit in hits])

    def _note(self, *, degraded: bool, reason: str = "") -> None:
        if degraded:
            self._ask_again_at = time.monotonic() + self._pause_seconds
        if degraded == self._degraded:
            return
        self._degraded = degraded
        self._report(int(degraded))
        if degraded:
            log.warning("rate_limit.degraded", reason=reason, asks_again_after_seconds=self._pause_seconds)
        else:
            log.info("rate_limit.recovered")

    async def close(self) -> None:
        await self._shared.close()
        await self._local.close()


def share_of(rule: FixedWindow | TokenBucket, workers: int) -> FixedWindow | TokenBucket:
    """What one worker of several may let pass, so that together they let pass about what they did before."""
    if isinstance(rule, FixedWindow):
        return FixedWindow(max(1, rule.limit // workers), rule.window_seconds)
    return TokenBucket(max(1, rule.per_minute // workers), max(1, rule.burst // workers))
