"""Directories that containers mount get their owner and mode once, and are then left alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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
