"""Directories that containers mount get their owner and mode once, and are then left alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from module_run import module_run

WANTED = [
    {"path": "open", "mode": "0755", "owner": os.getuid(), "group": os.getgid()},
    {"path": "open/closed", "mode": "0700", "owner": os.getuid(), "group": os.getgid()},
]


def make(root: Path, *, check_mode: bool = False) -> dict[str, Any]:
    return module_run("seawall_directories", check_mode=check_mode, arguments={"root": str(root), "directories": WANTED})


def test_makes_and_then_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "a/b"
    assert make(root)["changed"]
    assert (root / "open/closed").stat().st_mode & 0o7777 == 0o700
    assert not make(root)["changed"]


def test_repairs_a_mode_and_names_what_it_repaired(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "open").chmod(0o777)
    assert make(tmp_path)["directories"] == [str(tmp_path / "open")]


def test_a_root_behind_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    make(tmp_path / "root")
    assert not make(tmp_path / "root")["changed"]
    assert (tmp_path / "root").is_symlink()


def test_check_mode_makes_nothing(tmp_path: Path) -> None:
    assert make(tmp_path / "root", check_mode=True)["changed"]
    assert not (tmp_path / "root").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_each_gets_its_owner_and_gets_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WANTED[1], "owner", 10101)
    monkeypatch.setitem(WANTED[1], "group", 10102)
    root = tmp_path / "root"
    make(root)
    assert root.stat().st_mode & 0o7777 == 0o755
    for _ in range(2):
        status = (root / "open/closed").stat()
        assert (status.st_uid, status.st_gid) == (10101, 10102)
        os.chown(root / "open/closed", 0, 0)
        assert make(root)["directories"] == [str(root / "open/closed")]
