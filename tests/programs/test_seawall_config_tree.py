"""A directory of configuration is installed whole and validated, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
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


def test_a_warning_about_a_staged_file_is_a_refusal(tmp_path: Path) -> None:
    """As systemd-analyze verify gives it, and calls that a success."""
    says = "sh -c 'echo \"$1/a.conf:3: Unknown key, ignoring.\" >&2' sh %s"
    answer = install(tmp_path / "tree", FILES, validate=says)
    assert answer["failed"]
    assert "a.conf:3: Unknown key" in answer["msg"]
    assert not (tmp_path / "tree").exists()
    about_others = "sh -c 'echo /lib/other.service:3: Unknown key >&2; echo $1 is fine' sh %s"
    assert not install(tmp_path / "tree", FILES, validate=about_others).get("failed")


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd to ask, and where there is none no unit is installed either"
)
def test_a_misspelt_directive_of_a_unit_is_refused(tmp_path: Path) -> None:
    unit = {"path": "seawall-x.service", "content": "[Service]\nType=oneshot\nExecStart=/bin/true\n"}
    verify = "systemd-analyze verify %s/seawall-x.service"
    assert not install(tmp_path, [unit], validate=verify).get("failed")
    answer = install(tmp_path, [unit | {"content": unit["content"] + "ProtectSytem=strict\n"}], validate=verify)
    assert "ProtectSytem" in answer["msg"]


def test_units_that_systemd_has_not_read_count_as_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed before daemon-reload leaves the files as they should be."""
    programs, tree = tmp_path / "programs", tmp_path / "tree"
    programs.mkdir()
    units = [{"path": f"{name}.timer", "content": "[Timer]\n"} for name in ("old", "new")]
    install(tree, units)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for old, found in {"yes": ["old.timer"], "no": []}.items():
        shown = f"NeedDaemonReload=no\nId=new.timer\n\nNeedDaemonReload={old}\nId=old.timer"
        (programs / "systemctl").write_text(f"#!/bin/sh\n[ $1 = show ] && echo '{shown}'\n", encoding="utf-8")
        (programs / "systemctl").chmod(0o755)
        answer = install(tree, units)
        assert (answer["changed"], answer["changed_files"]) == (bool(found), found)
    (programs / "systemctl").write_text("#!/bin/sh\necho no systemd here >&2\nexit 1\n", encoding="utf-8")
    assert not install(tree, units)["changed"]


def test_what_is_not_pruned_stays(tmp_path: Path) -> None:
    install(tmp_path, FILES)
    (tmp_path / "of-others").write_text("", encoding="utf-8")
    arguments = {"path": str(tmp_path), "files": FILES, "prune": False, **OWN}
    assert not module_run("seawall_config_tree", arguments=arguments)["changed"]
    assert (tmp_path / "of-others").exists()


def test_an_absolute_path_is_refused(tmp_path: Path) -> None:
    assert install(tmp_path / "tree", [{"path": str(tmp_path / "outside"), "content": ""}])["failed"]
    assert not (tmp_path / "outside").exists()


def test_a_file_is_replaced_and_never_written_over(tmp_path: Path) -> None:
    """Who has it open reads the old one to its end."""
    install(tmp_path, FILES)
    with (tmp_path / "a.conf").open(encoding="utf-8") as stream:
        install(tmp_path, [FILES[0] | {"content": "new\n"}, FILES[1]])
        assert stream.read() == "one\n"


def test_directories_get_their_mode_and_the_candidate_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "staging"))
    (tmp_path / "staging").mkdir()
    tree = tmp_path / "tree"
    arguments = {"path": str(tree), "files": FILES, "directory_mode": "0711", "validate": "true %s", **OWN}
    assert module_run("seawall_config_tree", arguments=arguments)["changed"]
    assert {path.stat().st_mode & 0o7777 for path in (tree, tree / "sub")} == {0o711}
    assert not list((tmp_path / "staging").glob("seawall-candidate-*"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_an_owner_is_put_right(tmp_path: Path) -> None:
    install(tmp_path, FILES)
    os.chown(tmp_path / "a.conf", 10101, 10101)
    assert install(tmp_path, FILES)["changed_files"] == ["a.conf"]
    assert (tmp_path / "a.conf").stat().st_uid == os.getuid()
