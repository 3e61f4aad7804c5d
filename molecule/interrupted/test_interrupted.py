"""Killed anywhere, again and again, on a bare host: nothing is broken by it, and the next run converges."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from contextlib import suppress

from deployed import COMMAND, ENVIRONMENT, REPOSITORY, Host
from process_tree import descendants

# Random, and the same every time. A first deploy begins about 130 tasks, one that finds everything there about 70.
KILLED_IN_TASKS = [5 + byte % 120 for byte in hashlib.sha256(b"killed").digest()[:10]]


# Ends once dpkg has begun with a package of the engine's and not finished it.
UNFINISHED = (
    "until dpkg-query --show --showformat='${db:Status-Status}\\n' docker.io containerd runc 2>/dev/null"
    " | grep -qxE 'half-installed|unpacked|half-configured'; do sleep 0.02; done"
)


def kill(process: int) -> None:
    """End a process with all that it has started, as the machine that runs it might die."""
    for victim in descendants(process):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def deploy_and_kill_in(task: int | str) -> bool:
    """Start a deploy and kill it when its task of that number, or the first whose name begins so, begins."""
    command = [*COMMAND, "playbooks/deploy.yml"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout
        begun = 0
        for line in run.stdout:
            begun += line.startswith("TASK [")
            if begun == task or (isinstance(task, str) and line.startswith(f"TASK [{task}")):
                kill(run.pid)
                return True
    return False


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=660).stdout.strip()


def reachable(deployed: Host) -> bool:
    """Whether SSH answers again after a start."""
    for _ in range(60):
        with suppress(RuntimeError, AssertionError):
            deployed.must("true")
            return True
        time.sleep(1)
    return False


def test_power_cut_while_packages_are_unpacked(deployed: Host) -> None:
    """The host goes down in the middle of dpkg's work; once it is up, the next deploy mends what is left."""
    instance = deployed.instance
    deploy = [*COMMAND, "playbooks/deploy.yml"]
    with subprocess.Popen(deploy, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        docker("exec", instance, "timeout", "600", "sh", "-c", UNFINISHED)
        docker("kill", instance)
        kill(run.pid)
    docker("start", instance)
    assert reachable(deployed)
    assert deployed.root("dpkg --audit") != "", "dpkg had finished, so this proves nothing"

    assert deploy_and_kill_in("images : Name every image"), "the deploy did not get past the engine"
    assert deployed.root("dpkg --audit") == ""
    assert deployed.root("test -e /usr/sbin/policy-rc.d && echo left") == ""
    deployed.must("docker info")


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
