"""A reboot of a host where all went well; molecule/default has one where it did not, and molecule/upgrade one after a release."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from deployed import ROOT, Host


def closed_for_maintenance(answer: tuple[int, Any]) -> bool:
    status, body = answer
    return status == 503 and body["error"]["message"] == "Closed for maintenance"


def until(deployed: Host, session: dict[str, str], wanted: Callable[[tuple[int, Any]], bool]) -> None:
    """Nothing answers while it boots, and nginx may know for a second what it saw last."""
    deadline = time.monotonic() + 120
    while True:
        with suppress(OSError):
            if wanted(deployed.ask("/api/v1/documents", headers=session)):
                return
        assert time.monotonic() < deadline
        time.sleep(1)


def test_a_reboot_brings_everything_back_and_opens_nothing(deployed: Host) -> None:
    """A restart of the instance: systemd ends, and starts from nothing but the disk."""
    session = deployed.session()
    before, colour = set(deployed.containers()), deployed.root(f"readlink {ROOT}/upstream/current")
    assert deployed.playbook("maintenance", "-e", "maintenance_mode=on").code == 0
    subprocess.run(["docker", "restart", "--time", "120", deployed.instance], capture_output=True, check=True, timeout=300)
    until(deployed, session, closed_for_maintenance)
    assert deployed.playbook("maintenance", "-e", "maintenance_mode=off").code == 0
    until(deployed, session, lambda answer: answer[0] == 200)
    assert set(deployed.containers()) == before
    assert deployed.root(f"readlink {ROOT}/upstream/current") == colour
    # Docker starts most of it by itself, so this alone tells whether the unit works.
    deployed.must("systemctl is-system-running --wait")
    stack = deployed.unit("stack.service", "ActiveState", "Result")
    assert stack == {"ActiveState": "active", "Result": "success"}
    run = deployed.playbook("deploy")
    assert (run.code, run.recap["changed"]) == (0, 0), run.output[-3000:]
