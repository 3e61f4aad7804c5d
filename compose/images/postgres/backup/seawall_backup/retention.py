"""Which sets are kept: the last one of each of the newest days, weeks and months. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from seawall_backup.manifest import SET_ID

# A set from before a migration must outlive the ones made after it on the same day.
RECENT = timedelta(hours=24)


@dataclass(frozen=True)
class Retention:
    """How many days, weeks and months keep their last set."""

    daily: int
    weekly: int
    monthly: int


def made_at(identity: str) -> datetime | None:
    """The time in a set's name, or nothing where the name is not one that we give."""
    if not SET_ID.match(identity):
        return None
    try:
        return datetime.strptime(identity.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def day(moment: datetime) -> tuple[int, ...]:
    return moment.year, moment.month, moment.day


def week(moment: datetime) -> tuple[int, ...]:
    """The year is the week's own: a week over New Year is one week."""
    return moment.isocalendar()[:2]


def month(moment: datetime) -> tuple[int, ...]:
    return moment.year, moment.month


def last_of_each(
    newest_first: Iterable[tuple[datetime, str]], period: Callable[[datetime], tuple[int, ...]], count: int
) -> set[str]:
    """The last set of each of the newest periods that have one; a period without a backup uses up none of the count."""
    last: dict[tuple[int, ...], str] = {}
    for moment, identity in newest_first:
        last.setdefault(period(moment), identity)
    return set(list(last.values())[:count])


def superfluous(identities: Iterable[str], made: str, retention: Retention) -> list[str]:
    """The sets to delete, oldest first. Never the newest, the one just made, or one of the day before it."""
    now = made_at(made)
    found = sorted(((moment, name) for name in set(identities) if (moment := made_at(name))), reverse=True)
    if now is None or not found:
        return []
    kept = {made, found[0][1]} | {name for moment, name in found if moment >= now - RECENT}
    kept |= last_of_each(found, day, retention.daily)
    kept |= last_of_each(found, week, retention.weekly)
    kept |= last_of_each(found, month, retention.monthly)
    return sorted(name for _, name in found if name not in kept)
