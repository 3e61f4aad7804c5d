"""A reboot of a host where all went well; molecule/default has one where it did not, and molecule/upgrade one after a release."""

from __future__ import annotations

import subprocess
import time

from deployed import ROOT, Host


def test_a_reboot_brings_everything_back(deployed: Host) -> None:
    """A restart of the instance: systemd ends, and starts from nothing but the disk."""
    session = deployed.session()
    before, colour = set(deployed.containers()), deployed.root(f"readlink {ROOT}/upstream/current")
    subprocess.run(["docker", "restart", "--time", "120", deployed.instance], capture_output=True, check=True, timeout=300)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if deployed.ask("/api/v1/documents", headers=session)[0] == 200:
                break
        except OSError:
            pass
        time.sleep(1)
    assert deployed.ask("/api/v1/documents", headers=session)[0] == 200
    assert set(deployed.containers()) == before
    assert deployed.root(f"readlink {ROOT}/upstream/current") == colour
    # Docker starts most of it by itself, so this alone tells whether the unit works.
    deployed.must("systemctl is-system-running --wait")
    stack = deployed.unit("stack.service", "ActiveState", "Result")
    assert stack == {"ActiveState": "active", "Result": "success"}
    run = deployed.playbook("deploy")
    assert (run.code, run.recap["changed"]) == (0, 0), run.output[-3000:]
