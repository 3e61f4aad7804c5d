"""A teardown whose project and root do not belong together removes nothing; tests/stack and molecule/ tear down for real."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from check_run import Verdict, check_hosts

# Nobody's installation has this name.
PROJECT = "seawall-of-nobody"
# What is given besides the project, and what is said about it.
REFUSED = {
    "another_root": ("{{ test_root }}", ["holds the installation of theirs", f"seawall_project is {PROJECT}"]),
    "one_level": ("/seawall-of-nobody", ["seawall_root is '/seawall-of-nobody'", "Give the one that it was deployed with"]),
    "way_up": ("{{ test_root }}/../x", ["seawall_root is", "Give the one that it was deployed with"]),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of an installation of another project."""
    path = tmp_path_factory.mktemp("theirs")
    for name in ("compose", "secrets", "backups"):
        (path / name).mkdir()
    (path / "compose/.env").write_text("SEAWALL_PROJECT=theirs\n", encoding="utf-8")
    (path / "secrets/jwt_secret").write_text("not a real one", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def verdicts(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """All refusals in one run; everything was confirmed, data included."""
    inventory = tmp_path_factory.mktemp("inventory") / "hosts.yml"
    hosts = {name: {"seawall_root": given} for name, (given, _) in REFUSED.items()}
    everywhere = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    everywhere |= {"seawall_project": PROJECT, "test_root": str(root)}
    inventory.write_text(yaml.safe_dump({"seawall": {"hosts": hosts, "vars": everywhere}}), encoding="utf-8")
    options = ["--extra-vars", json.dumps({"confirm": PROJECT, "delete_data": True})]
    return check_hosts(inventory, *options, verb="teardown")


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_belong_together_is_refused_by_name(verdicts: dict[str, Verdict], case: str) -> None:
    (message,) = verdicts[case].messages
    assert message.startswith("Nothing was removed. ")
    assert [word for word in REFUSED[case][1] if word not in message] == [], message


@pytest.mark.usefixtures("verdicts")
def test_what_was_refused_is_still_there(root: Path) -> None:
    assert (root / "secrets/jwt_secret").read_text(encoding="utf-8") == "not a real one"
    assert sorted(path.name for path in root.iterdir()) == ["backups", "compose", "secrets"]


@pytest.mark.parametrize("answer", [None, "theirs"], ids=["none", "another"])
def test_without_the_right_word_nothing_is_removed(tmp_path: Path, answer: str | None) -> None:
    root = tmp_path / "ours"
    (root / "secrets").mkdir(parents=True)
    (root / "compose").mkdir()
    (root / "compose/.env").write_text(f"SEAWALL_PROJECT={PROJECT}\n", encoding="utf-8")
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    inventory = tmp_path / "hosts.yml"
    settings = here | {"seawall_project": PROJECT, "seawall_root": str(root)}
    inventory.write_text(yaml.safe_dump({"seawall": {"hosts": {"ours": settings}}}), encoding="utf-8")
    given = {"delete_data": True} | ({"confirm": answer} if answer else {})
    (verdict,) = check_hosts(inventory, "--extra-vars", json.dumps(given), verb="teardown").values()
    assert verdict.last_task == "Stop unless it was confirmed"
    assert f"add -e confirm={PROJECT}" in verdict.messages[0]
    assert sorted(path.name for path in root.iterdir()) == ["compose", "secrets"]
