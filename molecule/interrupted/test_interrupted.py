"""Killed anywhere, again and again, on a bare host: nothing is broken by it, and the next run converges."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from contextlib import suppress

from deployed import COMMAND, ENVIRONMENT, REPOSITORY, Host
from process_tree import descendants

# Random, and the same every time. A first deploy begins about 130 tasks, one that finds everything there about 70.
KILLED_IN_TASKS = [5 + byte % 120 for byte in hashlib.sha256(b"killed").digest()[:10]]


def deploy_and_kill_in(task: int) -> bool:
    """Start a deploy and kill it, as the machine that runs it might die, when its task of that number begins."""
    command = [*COMMAND, "playbooks/deploy.yml"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout
        begun = 0
        for line in run.stdout:
            begun += line.startswith("TASK [")
            if begun == task:
                for victim in descendants(run.pid):
                    with suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                return True
    return False


def test_killed_anywhere_it_converges(deployed: Host) -> None:
    killed = [task for task in KILLED_IN_TASKS if deploy_and_kill_in(task)]
    assert len(killed) >= 6, "the runs ended before they could be killed"
    run = deployed.playbook("deploy")
    assert run.code == 0, run.output[-3000:]
    again = deployed.playbook("deploy")
    assert (again.code, again.recap["changed"]) == (0, 0), again.output[-3000:]
    status, document = deployed.ask("/api/v1/documents", "POST", {"title": "Still here"}, deployed.session())
    assert status == 201, document
    assert deployed.root("systemctl --failed --no-legend") == ""
