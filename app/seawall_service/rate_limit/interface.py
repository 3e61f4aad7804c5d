"""What a limiter is: it counts one request against several rules at once and says whether it may pass (RL-08)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FixedWindow:
    """At most `limit` requests in each span of `window_seconds`."""

    limit: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """`burst` requests at once, refilled at `per_minute`."""

    per_minute: int
    burst: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One request as one rule sees it; `key` names the client and what it asks for, and holds no secret."""

    key: str
    rule: FixedWindow | TokenBucket


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict of the tightest rule.

    `remaining` requests may follow, all are there again at `reset_at` (seconds since 1970), and a refused request may be sent
    again after `retry_after_seconds` (at least 1; 0 where it passed).
    """

    allowed: bool
    limit: int
    remaining: int
    reset_at: int
    retry_after_seconds: int


class RateLimiter(Protocol):
    async def hit(self, hits: Sequence[Hit]) -> Decision:
        """Count the request against all rules, or against none where one refuses it. Never raises: a backend that is away is
        the limiter's to deal with.
        """

    async def close(self) -> None: ...
