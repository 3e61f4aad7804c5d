"""What is refused before a run, what it is compared with, and how it ends when it is told to."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest
from seawall_backup import __main__ as command_line
from seawall_backup import database, programs, scratch, sets
from seawall_backup.errors import BackupError, RefusedError
from seawall_backup.manifest import Contents, Manifest
from seawall_backup.retention import Retention
from seawall_backup.run import Settings, preflight

EMPTY = Contents({}, {}, [])


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
