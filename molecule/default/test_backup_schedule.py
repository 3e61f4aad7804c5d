"""Backups run by themselves: the timer stands, its service makes a verified set, and a failure is seen."""

from __future__ import annotations

import json
import re

from deployed import PROJECT, ROOT, WORST_EXPOSURE, Host

SERVICE = f"{PROJECT}-backup.service"


def sets(deployed: Host) -> set[str]:
    return set(deployed.must(f"ls {ROOT}/backups").split())


def test_the_timer_runs_and_tells_when(deployed: Host) -> None:
    shown = deployed.unit("backup.timer", "LoadState", "ActiveState", "UnitFileState", "NextElapseUSecRealtime")
    assert (shown["LoadState"], shown["ActiveState"], shown["UnitFileState"]) == ("loaded", "active", "enabled")
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", shown["NextElapseUSecRealtime"]), shown
    status = deployed.status_screen()
    assert shown["NextElapseUSecRealtime"] in status
    assert "FAILED" not in status


def test_the_unit_makes_a_verified_set(deployed: Host) -> None:
    before = sets(deployed)
    deployed.must(f"systemctl start {SERVICE}")
    (made,) = sets(deployed) - before
    assert json.loads(deployed.must(f"cat {ROOT}/backups/{made}/manifest.json"))["verified_at"]
    deployed.must(f"sh -c 'cd {ROOT}/backups/{made} && sha256sum --check manifest.json.sha256'")


def test_a_backup_that_fails_is_seen_until_one_succeeds(deployed: Host) -> None:
    before = sets(deployed)
    deployed.must(f"chown 0:0 {ROOT}/backups")
    try:
        deployed.root(f"systemctl start {SERVICE}")
        assert SERVICE in deployed.root("systemctl --failed --no-legend")
        assert f"journalctl --unit {SERVICE}" in deployed.status_screen()
        assert "cannot be written" in deployed.root(f"journalctl --no-pager --unit {SERVICE}")
    finally:
        deployed.must(f"chown 10103:10103 {ROOT}/backups")
    assert sets(deployed) == before
    deployed.must(f"systemctl start {SERVICE}")
    assert deployed.root("systemctl --failed --no-legend") == ""
    assert "FAILED" not in deployed.status_screen()


def test_the_unit_is_shut_in(deployed: Host) -> None:
    assert deployed.exposure("backup.service") <= WORST_EXPOSURE
