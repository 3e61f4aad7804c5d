"""A directory of configuration is installed whole and validated, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from module_run import module_run

OWN = {"owner": os.getuid(), "group": os.getgid()}
FILES = [{"path": "a.conf", "content": "one\n"}, {"path": "sub/b.conf", "content": "two\n", "mode": "0600"}]


def install(path: Path, files: list[dict[str, str]], *, check_mode: bool = False, validate: str | None = None) -> dict[str, Any]:
    arguments = {"path": str(path), "files": files, "validate": validate, **OWN}
    return module_run("seawall_config_tree", check_mode=check_mode, arguments=arguments)


def test_installs_and_then_changes_nothing(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    assert install(tree, FILES)["changed"]
    assert (tree / "sub/b.conf").read_text(encoding="utf-8") == "two\n"
    assert (tree / "sub/b.conf").stat().st_mode & 0o777 == 0o600
    assert not install(tree, FILES)["changed"]


def test_names_and_shows_only_what_differs(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    install(tree, FILES)
    answer = install(tree, [FILES[0] | {"content": "new\n"}, FILES[1]])
    assert answer["changed_files"] == ["a.conf"]
    assert [(d["before"], d["after"]) for d in answer["diff"]] == [("one\n", "new\n")]


def test_repairs_a_mode_and_removes_what_is_surplus(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    install(tree, FILES)
    (tree / "a.conf").chmod(0o777)
    (tree / "left-over").write_text("", encoding="utf-8")
    assert install(tree, FILES)["changed_files"] == ["a.conf", "left-over"]
    assert sorted(p.name for p in tree.iterdir()) == ["a.conf", "sub"]
    assert (tree / "a.conf").stat().st_mode & 0o777 == 0o644


def test_a_tree_that_its_program_refuses_is_not_installed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    install(tree, FILES)
    worse = [FILES[0] | {"content": "broken\n"}, FILES[1]]
    answer = install(tree, worse, validate="grep -q one %s/a.conf")
    assert answer["failed"]
    assert "a.conf" in answer["msg"]
    assert (tree / "a.conf").read_text(encoding="utf-8") == "one\n"
    assert not install(tree, FILES, validate="grep -q one %s/a.conf").get("failed")


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    answer = install(tree, FILES, check_mode=True)
    assert answer["changed"]
    assert not tree.exists()


def test_a_path_that_leaves_the_directory_is_refused(tmp_path: Path) -> None:
    answer = install(tmp_path / "tree", [{"path": "../outside", "content": ""}])
    assert answer["failed"]
    assert not (tmp_path / "outside").exists()
