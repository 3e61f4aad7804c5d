"""The arithmetic of both kinds of rule, in whole numbers, so that scripts/hit.lua reaches the very same verdicts.

What is stored of a rule and a key are two numbers: an amount, and the moment it was true. Of a window: the requests counted, and
when it began. Of a bucket: what is missing from it, and when that was so. All times are microseconds since 1970.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from seawall_service.rate_limit.interface import Decision, FixedWindow, TokenBucket

SECOND = 1_000_000
# One request of a bucket: what a rate of one a minute refills in a minute. So no rate needs fractions.
TOKEN = 60 * SECOND


class Stored(NamedTuple):
    amount: int
    at: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says; `wait` is how long until it lets the next request pass, 0 where it does now."""

    passes: bool
    limit: int
    remaining: int
    reset_at: int
    wait: int


def ceiling(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def limit_of(rule: FixedWindow | TokenBucket) -> int:
    return rule.limit if isinstance(rule, FixedWindow) else rule.burst


def as_of(rule: FixedWindow | TokenBucket, stored: Stored | None, now: int) -> Stored:
    """What is stored, brought up to now. A clock that was set back refills nothing, and begins a new window."""
    if isinstance(rule, FixedWindow):
        over = stored is None or not stored.at <= now < stored.at + rule.window_seconds * SECOND
        return Stored(0, now) if stored is None or over else stored
    if stored is None:
        return Stored(0, now)
    return Stored(max(0, stored.amount - max(0, now - stored.at) * rule.per_minute), now)


def counted(rule: FixedWindow | TokenBucket, stored: Stored) -> Stored:
    return Stored(stored.amount + (1 if isinstance(rule, FixedWindow) else TOKEN), stored.at)


def verdict(rule: FixedWindow | TokenBucket, stored: Stored, now: int, *, passes: bool) -> Verdict:
    if isinstance(rule, FixedWindow):
        reset_at = stored.at + rule.window_seconds * SECOND
        return Verdict(passes, rule.limit, rule.limit - stored.amount, reset_at, 0 if passes else reset_at - now)
    room = rule.burst * TOKEN - stored.amount
    wait = 0 if passes else ceiling(TOKEN - room, rule.per_minute)
    return Verdict(passes, rule.burst, room // TOKEN, now + ceiling(stored.amount, rule.per_minute), wait)


def fits(rule: FixedWindow | TokenBucket, stored: Stored) -> bool:
    size = rule.limit if isinstance(rule, FixedWindow) else rule.burst * TOKEN
    return counted(rule, stored).amount <= size


def decide(verdicts: Sequence[Verdict]) -> Decision:
    """What the tightest rule says: of those that refuse the longest wait, else the fewest requests that may follow."""
    refusals = [one for one in verdicts if not one.passes]
    if refusals:
        tightest = max(refusals, key=lambda one: one.wait)
    else:
        tightest = min(verdicts, key=lambda one: (one.remaining, -one.reset_at))
    return Decision(
        allowed=not refusals,
        limit=tightest.limit,
        remaining=tightest.remaining,
        reset_at=ceiling(tightest.reset_at, SECOND),
        retry_after_seconds=max(1, ceiling(tightest.wait, SECOND)) if refusals else 0,
    )
