"""What is refused before a run, what it is compared with, and how it ends when it is told to."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from made_sets import make_set
from seawall_backup import __main__ as command_line
from seawall_backup import database, programs, run, scratch, sets
from seawall_backup.errors import BackupError, BusyError, RefusedError
from seawall_backup.manifest import Contents, Manifest, Source
from seawall_backup.retention import Retention
from seawall_backup.run import Settings, Snapshot, preflight

EMPTY = Contents({}, {}, [])
OLD, NEW = "20260102T030405Z-00000001000000AB", "20260304T030405Z-00000001000000AC"


def server(large_objects: int) -> database.Server:
    return database.Server(17, "17.1", True, 0, large_objects, 0, "7")


def test_large_objects_are_refused_since_the_dump_leaves_them_out(tmp_path: Path) -> None:
    settings = Settings("db", "app", "seawall_backup", tmp_path / "password", tmp_path, "image", Retention(7, 4, 6))
    preflight(settings, server(0), "17.1", datetime.now(UTC))
    with pytest.raises(RefusedError, match=r"holds large objects \(3\)"):
        preflight(settings, server(3), "17.1", datetime.now(UTC))


def test_only_what_the_live_database_has_not_is_held_against_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "connect", lambda **_: nullcontext())
    monkeypatch.setattr(database, "read_contents", lambda _: EMPTY)
    monkeypatch.setattr(database, "grant_drift", lambda _: ["by hand", "by the restore"])
    monkeypatch.setattr(database, "invalid_indexes", lambda _: [])
    assert scratch.complaints("app", EMPTY, ["by hand"]) == ["grants: by the restore"]


@pytest.mark.parametrize("end", [SystemExit(143), BackupError("no server")])
def test_a_start_that_is_broken_off_is_followed_by_a_stop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: BaseException
) -> None:
    words: list[str] = []

    def run(argv: Sequence[str], _: Mapping[str, str]) -> str:
        words.append(argv[-1])
        if argv[-1] == "start":
            raise end
        if argv[-1] == "stop":
            raise BackupError("no server is running")
        return ""

    monkeypatch.setattr(programs, "run", run)
    with pytest.raises(type(end)), scratch.scratch_cluster(tmp_path / "scratch"):
        pass
    assert words[-2:] == ["start", "stop"]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def signals_as_they_were() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_they_were")
def test_a_signal_ends_the_command_also_while_sets_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def told_to_end(directory: Path, *, read_files: bool) -> Manifest:
        assert read_files
        os.kill(os.getpid(), signal.SIGTERM)
        raise BackupError(f"{directory.name} is not whole")

    (tmp_path / "20260102T030405Z-00000001000000AB").mkdir()
    monkeypatch.setattr(sets, "read_set", told_to_end)
    monkeypatch.setattr(sys, "argv", ["seawall-backup", "list"])
    monkeypatch.setenv("BACKUP_DIRECTORY", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 128 + signal.SIGTERM
    assert capfd.readouterr() == ("", "seawall-backup: ended by signal SIGTERM\n")


def settings_in(directory: Path) -> Settings:
    return Settings("db", "app", "seawall_backup", directory / "password", directory / "backups", "image", Retention(1, 0, 0))


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run whose dump and restore are made up, and what it had on disk and under its lock at each of them."""
    told: list[str] = []
    (tmp_path / "backups").mkdir()
    (tmp_path / "password").write_text("a:b\\c\n", encoding="utf-8")
    make_set(tmp_path / "backups", OLD)
    (tmp_path / "backups" / f"{sets.STAGING}left").mkdir()

    def note(step: str, directory: Path) -> None:
        with pytest.raises(BusyError), sets.locked(directory):
            pass
        told.append(f"{step}: {' '.join(sorted(path.name for path in directory.iterdir() if path.name != '.lock'))}")

    def dump(_: Settings, environment: Mapping[str, str], now: datetime, directory: Path) -> tuple[Snapshot, Path]:
        note("dump", directory)
        told.append(Path(environment["PGPASSFILE"]).read_text(encoding="utf-8"))
        staging = directory / f"{sets.STAGING}{NEW}"
        staging.mkdir()
        for name in (run.DUMP, run.GLOBALS):
            (staging / name).write_bytes(b"made up")
        return Snapshot(NEW, now, Source("app", "7", "17.1", "17.1", "image", "1/AB", now.isoformat()), EMPTY, []), staging

    def verify(_: Snapshot, __: Path, directory: Path, ___: Mapping[str, str]) -> None:
        note("verify", directory)
        if "spoiled" in told:
            raise BackupError("the restored copy is not what was dumped")

    monkeypatch.setattr(run, "dump", dump)
    monkeypatch.setattr(run, "verify", verify)
    return told


def test_a_set_is_restored_before_it_has_its_name_and_older_ones_go_after(steps: list[str], tmp_path: Path) -> None:
    manifest, pruned = run.back_up(settings_in(tmp_path))
    assert steps == [f"dump: {OLD}", "db:*:*:seawall_backup:a\\:b\\\\c\n", f"verify: {sets.STAGING}{NEW} {OLD}"]
    assert (manifest.id, pruned) == (NEW, [OLD])
    assert [found.id for found in sets.list_sets(tmp_path / "backups", read_files=True)[0]] == [NEW]


def test_a_copy_that_differs_leaves_the_sets_as_they_were(steps: list[str], tmp_path: Path) -> None:
    steps.append("spoiled")
    with pytest.raises(BackupError, match="not what was dumped"):
        run.back_up(settings_in(tmp_path))
    assert steps[-1].startswith("verify: ")
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == [".lock", OLD]


def test_a_set_that_cannot_be_published_costs_no_other(steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sets, "publish", full)
    with pytest.raises(OSError, match="No space left"):
        run.back_up(settings_in(tmp_path))
    assert steps
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == [".lock", OLD]


@pytest.mark.parametrize(
    ("changes", "client", "now", "words"),
    [
        ({}, "16.4", "2026-03-04", "pg_dump is version 16.4 and the server 17.1"),
        ({"checksums": False}, "17.1", "2026-03-04", "no data checksums"),
        ({"damaged_pages": 2}, "17.1", "2026-03-04", "counts 2 damaged pages"),
        ({}, "17.1", "2026-01-01", "the clock stands before the newest set"),
        ({"database_bytes": 1 << 60}, "17.1", "2026-03-04", "make room"),
    ],
)
def test_what_could_not_become_a_set_to_rely_on_is_refused(
    tmp_path: Path, changes: dict[str, Any], client: str, now: str, words: str
) -> None:
    (tmp_path / "backups").mkdir()
    make_set(tmp_path / "backups", OLD)
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    preflight(settings_in(tmp_path), server(0), "17.1", datetime(2026, 3, 4, tzinfo=UTC))
    with pytest.raises(RefusedError, match=words):
        preflight(settings_in(tmp_path), replace(server(0), **changes), client, moment)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGHOST", "PGDATABASE", "PGUSER", "BACKUP_PASSWORD_FILE", "BACKUP_IMAGE"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("BACKUP_DIRECTORY", str(tmp_path))
    for name, value in {"DAILY": "7", "WEEKLY": "4", "MONTHLY": "6"}.items():
        monkeypatch.setenv(f"BACKUP_KEEP_{name}", value)
    monkeypatch.setattr(sys, "argv", ["seawall-backup"])


@pytest.mark.usefixtures("signals_as_they_were", "environment")
def test_what_is_kept_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def busy(settings: Settings) -> None:
        raise BusyError(str(settings.retention))

    monkeypatch.setattr(command_line, "back_up", busy)
    assert command_line.main() == BusyError.exit_code
    assert f"seawall-backup: {Retention(daily=7, weekly=4, monthly=6)}" in capsys.readouterr().err
    for name, value in (("DAILY", "0"), ("WEEKLY", "-1"), ("MONTHLY", "six")):
        with monkeypatch.context() as patch:
            patch.setenv(f"BACKUP_KEEP_{name}", value)
            assert command_line.main() == 1
        assert f"BACKUP_KEEP_{name} is '{value}'" in capsys.readouterr().err
