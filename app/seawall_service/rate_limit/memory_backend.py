"""Counts in this process: for development and tests, and while the shared backend is away."""

import time
from collections.abc import Callable, Sequence

from seawall_service.rate_limit.interface import Decision, Hit
from seawall_service.rate_limit.rules import Stored, as_of, counted, decide, fits, verdict

# A few MiB. Beyond it the key that was used longest ago is forgotten, which lets its client begin anew.
MAX_KEYS = 20_000


def microseconds() -> int:
    return time.time_ns() // 1000


class MemoryRateLimiter:
    def __init__(self, clock: Callable[[], int] = microseconds, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._stored: dict[str, Stored] = {}

    async def hit(self, hits: Sequence[Hit]) -> Decision:
        now = self._clock()
        # Taken out and put back at the end, so that the first key is always the one used longest ago.
        kept = [self._stored.pop(hit.key, None) for hit in hits]
        current = [as_of(hit.rule, stored, now) for hit, stored in zip(hits, kept, strict=True)]
        passes = [fits(hit.rule, stored) for hit, stored in zip(hits, current, strict=True)]
        if all(passes):
            current = [counted(hit.rule, stored) for hit, stored in zip(hits, current, strict=True)]
        # A refusal changes nothing of what is stored, not even its moment.
        left: Sequence[Stored | None] = current if all(passes) else kept
        self._stored |= {hit.key: stored for hit, stored in zip(hits, left, strict=True) if stored is not None}
        while len(self._stored) > self._max_keys:
            del self._stored[next(iter(self._stored))]
        return decide(
            [verdict(hit.rule, stored, now, passes=passed) for hit, stored, passed in zip(hits, current, passes, strict=True)]
        )

    async def close(self) -> None:
        """Nothing to close: what was counted ends with the process."""
