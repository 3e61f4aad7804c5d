"""What is kept and what is deleted: as a function of names, and with real directories."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from made_sets import make_set
from seawall_backup import sets
from seawall_backup.manifest import set_id
from seawall_backup.retention import Retention, made_at, superfluous
from seawall_backup.run import prune

USUAL = Retention(7, 4, 6)
ONE_DAY = Retention(1, 0, 0)


def name(moment: str) -> str:
    return set_id(datetime.fromisoformat(moment).replace(tzinfo=UTC), "1/AB")


def kept(names: list[str], retention: Retention, made: str = "") -> list[str]:
    gone = superfluous(names, made or max(names), retention)
    assert gone == sorted(gone)
    return [found[:13] for found in sorted(set(names) - set(gone))]


def test_a_year_of_nights_leaves_days_weeks_and_months() -> None:
    start = datetime(2025, 7, 1, 3, 17, tzinfo=UTC)
    nights = [set_id(start + timedelta(days=number), "1/AB") for number in range(365)]
    assert made_at(nights[-1]) == datetime(2026, 6, 30, 3, 17, tzinfo=UTC)
    # The last of June is also the last of its week and month; Sundays end weeks.
    days = ["20260624", "20260625", "20260626", "20260627", "20260628", "20260629", "20260630"]
    weeks = ["20260614", "20260621"]
    months = ["20260131", "20260228", "20260331", "20260430", "20260531"]
    assert kept(nights, USUAL) == [f"{date}T0317" for date in sorted(days + weeks + months)]


def test_pruning_every_night_ends_with_the_same_sets_as_pruning_once() -> None:
    start = datetime(2025, 7, 1, 3, 17, tzinfo=UTC)
    nights = [set_id(start + timedelta(days=number), "1/AB") for number in range(365)]
    there: list[str] = []
    for night in nights:
        there = [found for found in [*there, night] if found not in superfluous([*there, night], night, USUAL)]
        assert len(there) <= 7 + 4 + 6
    assert sorted(there) == sorted(set(nights) - set(superfluous(nights, nights[-1], USUAL)))


def test_the_last_set_of_a_day_stands_for_it() -> None:
    names = [name(f"2026-03-{day}T{hour}") for day in ("02", "03", "04") for hour in ("01:00", "12:00", "23:00")]
    assert kept(names, Retention(3, 0, 0)) == [
        "20260302T2300",
        "20260303T2300",
        "20260304T0100",
        "20260304T1200",
        "20260304T2300",
    ]


def test_a_day_without_a_backup_uses_up_none_of_the_count() -> None:
    names = [name(f"2026-{date}T03:17") for date in ("01-01", "02-05", "05-30", "06-20")]
    assert kept(names, Retention(3, 0, 0)) == ["20260205T0317", "20260530T0317", "20260620T0317"]


def test_a_week_over_new_year_is_one_week() -> None:
    names = [name(f"{date}T03:17") for date in ("2026-12-27", "2026-12-28", "2026-12-31", "2027-01-03", "2027-01-10")]
    assert kept(names, Retention(1, 3, 0)) == ["20261227T0317", "20270103T0317", "20270110T0317"]


def test_weeks_of_one_number_in_two_years_are_two() -> None:
    names = [name(f"{date}T03:17") for date in ("2026-01-08", "2027-01-14")]
    assert [datetime.fromisoformat(date).isocalendar().week for date in ("2026-01-08", "2027-01-14")] == [2, 2]
    assert kept(names, Retention(1, 2, 0)) == ["20260108T0317", "20270114T0317"]


def test_what_was_made_within_a_day_stays_though_the_day_has_a_later_set() -> None:
    names = [name(f"2026-03-{moment}") for moment in ("03T11:59", "03T12:00", "04T11:00", "04T12:00")]
    assert kept(names, ONE_DAY) == ["20260303T1200", "20260304T1100", "20260304T1200"]


def test_the_set_just_made_and_the_newest_stay_when_the_clock_was_wrong() -> None:
    names = [name(moment) for moment in ("2026-03-01T03:17", "2026-03-04T03:17", "2031-01-01T03:17")]
    assert kept(names, ONE_DAY, made=names[1]) == ["20260304T0317", "20310101T0317"]


@pytest.mark.parametrize("stranger", ["notes", "20260101", "20261399T031700Z-00000001000000AB", ".lock", ""])
def test_what_is_no_set_of_ours_is_never_named(stranger: str) -> None:
    old, new = name("2020-01-01T03:17"), name("2026-03-04T03:17")
    assert superfluous([stranger, old, new], new, ONE_DAY) == [old]
    assert superfluous([stranger, old, new], stranger, ONE_DAY) == []


def test_nothing_to_delete_where_there_is_one_set() -> None:
    only = name("2026-03-04T03:17")
    assert superfluous([only], only, ONE_DAY) == []


OLD, NEW = name("2026-01-02T03:17"), name("2026-03-04T03:17")


def test_the_old_set_goes_and_strangers_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, linked = name("2025-05-05T05:05"), name("2025-06-06T06:06")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_set(elsewhere, linked)
    sets_there = tmp_path / "backups"
    sets_there.mkdir()
    for identity in (OLD, NEW, broken):
        make_set(sets_there, identity)
    (sets_there / broken / "app.dump").unlink()
    (sets_there / linked).symlink_to(elsewhere / linked)
    (sets_there / "notes").mkdir()
    assert prune(sets_there, NEW, ONE_DAY) == [OLD]
    assert sorted(path.name for path in sets_there.iterdir()) == sorted([NEW, broken, linked, "notes"])
    assert sets.read_set(elsewhere / linked).id == linked
    assert f"warning: {broken} is not whole" in capsys.readouterr().err


def test_a_broken_set_does_not_stand_for_its_day(tmp_path: Path) -> None:
    whole, broken = name("2026-01-02T03:17"), name("2026-01-02T20:00")
    for identity in (whole, broken, NEW):
        make_set(tmp_path, identity)
    (tmp_path / broken / "app.dump").unlink()
    assert prune(tmp_path, NEW, Retention(2, 0, 0)) == []


def test_a_delete_that_is_killed_leaves_no_half_of_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: Path) -> None:
        raise SystemExit(137)

    for identity in (OLD, NEW):
        make_set(tmp_path, identity)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(SystemExit):
            prune(tmp_path, NEW, ONE_DAY)
    assert [found.id for found in sets.list_sets(tmp_path)[0]] == [NEW]
    assert (tmp_path / f"{sets.DELETED}{OLD}" / "app.dump").exists()
    sets.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NEW]


def test_a_delete_that_is_refused_is_told_and_the_new_set_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: Path, identity: str) -> None:
        raise PermissionError(13, "Permission denied", identity)

    for identity in (OLD, NEW):
        make_set(tmp_path, identity)
    monkeypatch.setattr(sets, "delete", refused)
    assert prune(tmp_path, NEW, ONE_DAY) == []
    assert f"{OLD} could not be deleted" in capsys.readouterr().err
