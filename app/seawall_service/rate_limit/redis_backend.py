"""Counts for all workers and all containers together: one call of one script for each request, by the server's clock."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import batched
from pathlib import Path

from redis.exceptions import InvalidResponse, NoScriptError

from seawall_service.rate_limit.interface import Decision, FixedWindow, Hit
from seawall_service.rate_limit.line import Line
from seawall_service.rate_limit.rules import SECOND, Verdict, decide, limit_of

SCRIPT = (Path(__file__).parent / "scripts" / "hit.lua").read_text(encoding="utf-8")
# The name by which the server keeps a script, not a protection of anything.
DIGEST = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


def arguments_of(hits: Sequence[Hit]) -> Iterator[str | int]:
    for hit in hits:
        if isinstance(hit.rule, FixedWindow):
            yield from ("w", hit.rule.limit, hit.rule.window_seconds * SECOND)
        else:
            yield from ("b", hit.rule.burst, hit.rule.per_minute)


class RedisRateLimiter:
    """`hit` raises RedisError or OSError when the server is away; DegradingRateLimiter deals with that.

    `clock` (microseconds since 1970) replaces the server's own, for tests that must not wait.
    """

    def __init__(self, line: Line, prefix: str, clock: Callable[[], int] | None = None) -> None:
        self._line = line
        self._prefix = prefix
        self._clock = clock

    async def hit(self, hits: Sequence[Hit]) -> Decision:
        words = [len(hits), *(self._prefix + hit.key for hit in hits), self._clock() if self._clock else "", *arguments_of(hits)]
        try:
            answer = await self._line.ask("EVALSHA", DIGEST, *words)
        except NoScriptError:
            # The first time, and after a restart of the server.
            answer = await self._line.ask("EVAL", SCRIPT, *words)
        if not isinstance(answer, list) or len(answer) != 4 * len(hits) or not all(isinstance(number, int) for number in answer):
            raise InvalidResponse("the script's answer is not four numbers for each rule")
        return decide(
            [
                Verdict(bool(passes), limit_of(hit.rule), remaining, reset_at, wait)
                for hit, (passes, remaining, reset_at, wait) in zip(hits, batched(answer, 4, strict=True), strict=True)
            ]
        )

    async def close(self) -> None:
        self._line.close()
