"""The directory of sets: one run at a time, whole sets only, and a sweep that touches nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from made_sets import make_set
from seawall_backup import sets
from seawall_backup.errors import BusyError

ID = "20260102T030405Z-00000001000000AB"
OLDER = "20260101T030405Z-00000001000000AA"


def test_a_published_set_is_valid_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    made = make_set(tmp_path, ID)
    assert sets.read_set(made).id == ID
    assert [path.name for path in tmp_path.iterdir()] == [ID]


def test_sets_are_listed_newest_first(tmp_path: Path) -> None:
    for identity in (OLDER, ID):
        make_set(tmp_path, identity)
    (tmp_path / "notes").mkdir()
    (tmp_path / f"{sets.STAGING}{ID}").mkdir()
    valid, wrong = sets.list_sets(tmp_path)
    assert ([found.id for found in valid], wrong) == ([ID, OLDER], [])


@pytest.mark.parametrize("file", ["app.dump", sets.MANIFEST, sets.MANIFEST_HASH])
@pytest.mark.parametrize("harm", ["missing", "longer"])
def test_a_harmed_set_is_not_valid(tmp_path: Path, file: str, harm: str) -> None:
    path = make_set(tmp_path, ID) / file
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b" ")
    valid, wrong = sets.list_sets(tmp_path)
    assert valid == []
    assert len(wrong) == 1
    assert ID in wrong[0]


def test_a_set_under_another_name_is_not_valid(tmp_path: Path) -> None:
    make_set(tmp_path, ID).rename(tmp_path / OLDER)
    assert sets.list_sets(tmp_path)[0] == []


def test_the_detached_hash_is_what_sha256sum_reads(tmp_path: Path) -> None:
    made = make_set(tmp_path, ID)
    expected = hashlib.sha256((made / sets.MANIFEST).read_bytes()).hexdigest()
    assert (made / sets.MANIFEST_HASH).read_text(encoding="ascii") == f"{expected}  manifest.json\n"


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with sets.locked(tmp_path), pytest.raises(BusyError), sets.locked(tmp_path):
        pass
    with sets.locked(tmp_path):
        pass


def test_the_sweep_takes_what_killed_runs_left_and_nothing_else(tmp_path: Path) -> None:
    make_set(tmp_path, ID)
    for name in (f"{sets.STAGING}x", f"{sets.SCRATCH}x"):
        (tmp_path / name / "deep").mkdir(parents=True)
    sets.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [ID]


def test_a_flipped_byte_is_found_where_every_byte_is_read(tmp_path: Path) -> None:
    dump = make_set(tmp_path, ID) / "app.dump"
    dump.write_bytes(b"dumq")
    assert [found.id for found in sets.list_sets(tmp_path)[0]] == [ID]
    valid, wrong = sets.list_sets(tmp_path, read_files=True)
    assert valid == []
    assert "its hash differs" in wrong[0]
