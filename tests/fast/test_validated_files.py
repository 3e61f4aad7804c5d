"""Every file that a role writes on a host is checked by the program that reads it, or stands here with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# All modules in use that write files; the next test sees to it that there is no other.
WRITERS = {
    "ansible.builtin.copy",
    "ansible.builtin.lineinfile",
    "ansible.posix.authorized_key",
    "community.crypto.openssl_privatekey",
    "community.crypto.x509_certificate",
    "seawall_config_tree",
    "seawall_secrets",
}
OTHERS = {
    *(f"ansible.builtin.{name}" for name in ("apt", "assert", "command", "debug", "fail", "file", "find", "raw")),
    *(f"ansible.builtin.{name}" for name in ("import_role", "import_tasks", "include_role", "include_tasks", "meta", "script")),
    *(f"ansible.builtin.{name}" for name in ("set_fact", "setup", "slurp", "stat", "systemd_service", "uri", "user", "wait_for")),
    *("ansible.builtin.wait_for_connection", "community.crypto.openssl_csr_pipe", "community.crypto.x509_certificate_info"),
    *("community.crypto.x509_certificate_pipe", "community.docker.docker_compose_v2"),
    *("seawall_baseline_probe", "seawall_deploy_lock", "seawall_directories", "seawall_host_probe", "seawall_http_probe"),
    *("seawall_image_build", "seawall_stack_state"),
}
# What checks a file before it is installed, by role, file and task.
PROGRAMS = {
    ("backup/schedule", "Install the units that run backups by themselves"): "systemd-analyze verify",
    ("cache/main", "Install the configuration"): "seawall-cache-check",
    ("docker_engine/daemon_json", "Write daemon.json"): "dockerd --validate",
    ("docker_engine/plugin_source", "Pin the plugins' source"): "apt-cache",
    ("docker_engine/plugin_source", "Add the plugins' source"): "apt-get",
    ("edge/main", "Install the configuration"): "nginx",
    ("host_baseline/firewall", "Write the candidate"): "nft --check",
    ("host_baseline/firewall", "Keep the rules"): "item.validate",
    ("host_baseline/parts", "Write the files that differ"): "item.validate",
    ("host_baseline/sshd", "Let sshd read the candidate"): "sshd -t",
    ("host_baseline/sshd", "Keep the settings"): "sshd -t",
    ("postgres/main", "Install the configuration"): "seawall-postgres-check",
    ("stack/main", "Install the Compose file"): "docker compose",
    ("stack/unit", "Install the unit that brings the stack up after a boot"): "systemd-analyze verify",
    ("tls/issue", "Install what it is told, and what puts its certificates in use"): "py_compile",
    ("tls/schedule", "Install the units that have the certificate renewed"): "systemd-analyze verify",
}
# What no program checks beforehand, and why that is so.
UNCHECKED = {
    ("api/main", "Write down the release in charge where that was left out"): "a line that to_json makes, for people",
    ("api/release", "Write the release down"): "a line that to_json makes, for people",
    ("auth/first_user", "Leave them in the file"): "a note for a person",
    ("docker_engine/not_started", "Put daemon.json back as it was"): "what was there before",
    ("host_baseline/auditd", "Put the rules back that were there"): "what was there before",
    ("edge/maintenance", "Close the service to clients"): "a mark that is looked for and never read",
    ("host_baseline/auditd", "Write the rules"): "auditctl has no dry run; rules that it refuses are taken away again",
    ("host_baseline/deploy_user", "Write the candidate"): "public keys in a form that preflight checks",
    ("host_baseline/deploy_user", "Set its keys"): "its module refuses what is no public key",
    ("images/archive", "Bring the archive to the host"): "docker load, the only reader, checks it by its hashes",
    ("auth/first_user", "Generate the first user's password"): "a random word of its module's own making",
    ("secrets/check", "Compare the supplied secrets with the host's, changing nothing"): "nothing is written",
    ("secrets/main", "Generate, install, derive and repair the secrets"): "random words of its module's own making",
    ("tls/provided", "Copy the certificate and its key"): "preflight has parsed both and compared their keys",
    ("tls/self_signed", "Make the key of the CA"): "its module makes and parses it",
    ("tls/self_signed", "Make the certificate of the CA"): "its module makes and parses it",
    ("tls/self_signed", "Make the key of the certificate"): "its module makes and parses it",
    ("tls/self_signed", "Install the certificate"): "a module has just made it",
    ("tls/use", "Put the CA's certificate where people find it"): "a copy of what a module has made",
}
# Of the files in host_baseline_catalogue, whose programs have no dry run either: molecule/baseline looks at what they do.
WITHOUT_A_DRY_RUN = {"timesyncd.conf.j2", "journald.conf.j2", "limits.conf.j2", "system.conf.j2", "coredump.conf.j2"}


def tasks_in(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] | None = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found or []


def variables_in(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def every_task(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        for part in ("block", "rescue", "always"):
            yield from every_task(task.get(part) or [])


TASKS = [(path, task) for path in sorted(ROOT.glob("roles/*/tasks/*.yml")) for task in every_task(tasks_in(path))]


def written() -> dict[tuple[str, str], str]:
    """File and name of each task that writes: its `validate`, with the role's own variables spelt out."""
    found: dict[tuple[str, str], str] = {}
    for path, task in TASKS:
        for module in WRITERS & task.keys():
            validate = str(task[module].get("validate", ""))
            variables = path.parents[1] / "vars/main.yml"
            values = variables_in(variables) if validate and variables.exists() else {}
            validate += "".join(str(values.get(name, "")) for name in re.findall(r"[a-z_]+", validate))
            found[f"{path.parts[-3]}/{path.stem}", task["name"]] = validate
    return found


WRITTEN = written()


def test_no_other_module_writes_files() -> None:
    modules = {key for _, task in TASKS for key in task if "." in key or key.startswith("seawall_")}
    assert modules - WRITERS - OTHERS == set(), "add each to WRITERS or to OTHERS"
    assert WRITERS - modules == set()


def test_every_task_that_writes_stands_in_one_of_the_tables() -> None:
    assert set(WRITTEN) == PROGRAMS.keys() | UNCHECKED.keys()
    assert PROGRAMS.keys() & UNCHECKED.keys() == set()


@pytest.mark.parametrize("task", PROGRAMS, ids=" ".join)
def test_a_file_is_checked_by_its_own_program(task: tuple[str, str]) -> None:
    validate = WRITTEN[task]
    assert PROGRAMS[task] in validate
    assert "%s" in validate or validate.startswith("{{ item.validate")


def test_every_file_of_the_baseline_has_its_program() -> None:
    catalogue = variables_in(ROOT / "roles/host_baseline/vars/main.yml")["host_baseline_catalogue"]
    # These two are written by task files of their own, which the table above has.
    elsewhere = {"sshd.conf.j2", "audit.rules.j2"}
    assert {entry["template"] for entry in catalogue if "validate" not in entry} == WITHOUT_A_DRY_RUN | elsewhere
    assert [entry for entry in catalogue if "%s" not in entry.get("validate", "%s")] == []


def test_every_template_of_a_role_is_written_by_one_of_these() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("roles/*/*/*.yml"))
    assert [path.name for path in ROOT.glob("roles/*/templates/*") if path.name not in texts] == []
