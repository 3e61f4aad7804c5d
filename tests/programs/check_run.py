"""Run `./seawall check`'s playbook, or another verb's, once and read what it said about each host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent


@dataclass
class Verdict:
    """What the check refused about one host."""

    messages: list[str] = field(default_factory=list)
    # Task and, where it has several, the one check of it.
    refused_by: set[tuple[str, str]] = field(default_factory=set)
    last_task: str = ""


def failures(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if result.get("failed"):
        yield from [item for item in result.get("results", []) if item.get("failed")] or [result]


def check_name(result: dict[str, Any]) -> str:
    """The name of the failed item of a loop over checks, or the failed condition of a task that has no such loop."""
    item = result.get("item")
    assertion = str(result.get("assertion", ""))
    return str(item["name"]) if assertion == "item.that" and isinstance(item, dict) else assertion


def check_hosts(inventory: Path, *options: str, verb: str = "check", docker_host: str = "") -> dict[str, Verdict]:
    """One verdict for each host of the inventory, all in one run; `docker_host` is an engine to ask instead of this machine's."""
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_FORKS": str(2 * (os.cpu_count() or 1)),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    } | ({"DOCKER_HOST": docker_host} if docker_host else {})
    command = [str(PROGRAMS / "ansible-playbook"), str(ROOT / f"playbooks/{verb}.yml"), "--inventory", str(inventory), *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.lstrip().startswith("{"), done.stdout[-3000:] + done.stderr[-3000:]
    verdicts: dict[str, Verdict] = {}
    for task in (task for play in json.loads(done.stdout)["plays"] for task in play["tasks"]):
        # What comes after a semicolon is worked out by Ansible.
        name = task["task"]["name"].rpartition(" : ")[2].partition(";")[0]
        for host, result in task["hosts"].items():
            verdict = verdicts.setdefault(host, Verdict())
            verdict.last_task = name
            failed = list(failures(result))
            if failed:
                # Whatever failed before has been rescued.
                verdict.messages, verdict.refused_by = [], set()
            for failure in failed:
                message = str(failure.get("msg", failure))
                # A task without conditions of its own tells one refusal a line.
                verdict.messages += [message] if "assertion" in failure else message.splitlines()
                verdict.refused_by.add((name, check_name(failure)))
    return verdicts
