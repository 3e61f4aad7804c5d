"""Bad input stops before anything is changed, with one sentence that names the setting or file and the cure."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from installation import REPOSITORY, docker, running, seawall

EDGE = {"bind_address": "127.0.0.1", "http_port": 18080, "https_port": 18443}


def check(extra: dict[str, object]) -> tuple[int, str]:
    another = {"seawall_project": "seawall-preflight", "seawall_root": "/opt/seawall-preflight"}
    run = seawall("check", "-e", json.dumps(another), "-e", json.dumps(extra))
    return run.code, run.output


@pytest.mark.usefixtures("stack")
def test_bad_input_is_refused_by_a_deploy() -> None:
    """One way of refusing; tests/settings/test_preflight_values.py has a bad value for every check."""
    before = running()
    run = seawall("deploy", "-e", json.dumps({"secrets_supplied": {"jwt_secret": "changeme"}}))
    assert run.code != 0
    assert "jwt_secret" in run.output.partition("fatal:")[2], run.output[-3000:]
    assert run.recap.get("changed", 0) == 0
    assert running() == before


def test_taken_port_is_named_with_its_program() -> None:
    with socket.create_server(("127.0.0.1", 18999)):
        code, output = check({"edge_listen": EDGE | {"https_port": 18999, "http_port": 18998}})
    assert code != 0
    assert re.search(rf"port 18999 is taken by \S+ \(pid {os.getpid()}\)", output)
    assert "edge_listen" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dance"], "'dance' is no verb"),
        (["../playbooks/deploy"], "is no verb"),
        (["deploy", "-i", "inventories/absent"], "the inventory inventories/absent is missing"),
        (["deploy", "--inventory=inventories/absent"], "the inventory inventories/absent is missing"),
        (["check", "-e", "@absent.yml"], "the file of settings absent.yml is missing"),
        (["test", "nonsense"], "'nonsense' is no part of the tests"),
    ],
)
def test_wrong_commands_say_so(arguments: list[str], words: str) -> None:
    run = seawall(*arguments, settings=None)
    assert run.code != 0
    assert words in run.output


def test_without_root_or_sudo_it_says_so() -> None:
    """As a user that is nobody, with a PATH that holds no sudo, in a copy that everybody can read."""
    with tempfile.TemporaryDirectory() as name:
        tools, playbooks = Path(name, "tools"), Path(name, "playbooks")
        tools.mkdir()
        playbooks.mkdir()
        for tool in ("sh", "readlink", "dirname", "id", "basename", "sed", "cat", "sha256sum"):
            (tools / tool).symlink_to(str(shutil.which(tool)))
        script = Path(shutil.copy(REPOSITORY / "seawall", name))
        playbook = Path(shutil.copy(REPOSITORY / "playbooks/deploy.yml", playbooks))
        for path in (Path(name), tools, playbooks, script, playbook):
            path.chmod(0o755)
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"PATH={tools}"]
        done = subprocess.run([*command, str(script), "deploy"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "needs root" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("stack")
def test_a_check_installs_nothing() -> None:
    """The check passes, and makes neither a directory nor a container, volume or network."""
    root = Path("/opt/seawall-preflight")
    assert not root.exists()
    ports = EDGE | {"http_port": 18995, "https_port": 18994}
    code, output = check({"seawall_root": str(root), "edge_listen": ports})
    assert code == 0, output[-3000:]
    assert not root.exists()
    label = "label=com.docker.compose.project=seawall-preflight"
    for kind in ("container", "volume", "network"):
        assert docker(kind, "ls", "--quiet", "--filter", label) == ""


def test_what_an_inventory_says_about_all_hosts_counts(tmp_path: Path) -> None:
    """Our own defaults are in a group_vars/all, too, and must not win over it."""
    inventory = tmp_path / "inventory"
    shutil.copytree(REPOSITORY / "inventories/local", inventory)
    (inventory / "group_vars/all.yml").write_text("---\nseawall_project: Not A Name\n", encoding="utf-8")
    run = seawall("check", "-i", str(inventory), settings=None)
    assert run.code != 0
    assert "Not A Name" in run.output


def test_a_baseline_is_refused_where_there_is_no_systemd() -> None:
    defaults = yaml.safe_load((REPOSITORY / "roles/host_baseline/defaults/main.yml").read_text(encoding="utf-8"))
    # Not the firewall: others may have ports open here.
    parts = dict.fromkeys(defaults["host_baseline_parts"], False) | {"sysctl": True}
    ports = EDGE | {"http_port": 18993, "https_port": 18992}
    code, output = check({"edge_listen": ports, "host_baseline_parts": parts})
    refused = "host_baseline needs systemd" in " ".join(output.split())
    assert refused is not Path("/run/systemd/system").exists()
    assert code != 0 or not refused
