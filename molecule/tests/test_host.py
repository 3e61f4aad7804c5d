"""What holds on every host, whatever its scenario: it serves, a further run changes nothing, and a reboot brings it back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time

import pytest
from deployed import PROJECT, ROOT, SETTINGS, Host

BACKUP = f"{PROJECT}-backup"
HAS_SCHEDULE = SETTINGS.get("backup_schedule", {"enabled": True})["enabled"]
with_schedule = pytest.mark.skipif(not HAS_SCHEDULE, reason="this scenario has switched the schedule off")
# Measured: docs/security.md. Most directives that could be dropped cost 0.1 or more.
WORST_EXPOSURE = 1.2


def test_the_way_of_a_stranger(deployed: Host) -> None:
    session = deployed.session()
    status, document = deployed.ask("/api/v1/documents", "POST", {"title": "First"}, session)
    assert status == 201, document
    path = f"/api/v1/documents/{document['id']}"
    assert deployed.ask(f"{path}/entries", "POST", {"content": "Hello"}, session)[0] == 201
    assert [entry["content"] for entry in deployed.ask(path, headers=session)[1]["entries"]] == ["Hello"]


def test_systemd_is_content(deployed: Host) -> None:
    assert deployed.root("systemctl --failed --no-legend") == ""
    assert deployed.root("systemctl is-enabled docker.service") == "enabled"


def unit(deployed: Host, name: str, *properties: str) -> dict[str, str]:
    shown = deployed.must(f"systemctl show {name} --property={','.join(properties)}")
    return dict(line.split("=", 1) for line in shown.splitlines())


def status_screen(deployed: Host) -> str:
    """Ansible breaks long lines, so every gap is one space."""
    return " ".join(deployed.playbook("status").output.split())


def sets(deployed: Host) -> set[str]:
    return set(deployed.must(f"ls {ROOT}/backups").split())


def test_the_timer_is_as_the_settings_want_it(deployed: Host) -> None:
    shown = unit(deployed, f"{BACKUP}.timer", "LoadState", "ActiveState", "UnitFileState", "NextElapseUSecRealtime")
    status = status_screen(deployed)
    if HAS_SCHEDULE:
        assert (shown["LoadState"], shown["ActiveState"], shown["UnitFileState"]) == ("loaded", "active", "enabled")
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", shown["NextElapseUSecRealtime"]), shown
        assert shown["NextElapseUSecRealtime"] in status
    else:
        assert (shown["LoadState"], shown["ActiveState"]) == ("not-found", "inactive")
        assert unit(deployed, f"{BACKUP}.service", "LoadState") == {"LoadState": "not-found"}
        assert "backup_schedule.enabled is false" in status
    assert "FAILED" not in status


@with_schedule
def test_the_unit_makes_a_verified_set(deployed: Host) -> None:
    before = sets(deployed)
    deployed.must(f"systemctl start {BACKUP}.service")
    (made,) = sets(deployed) - before
    assert json.loads(deployed.must(f"cat {ROOT}/backups/{made}/manifest.json"))["verified_at"]
    deployed.must(f"sh -c 'cd {ROOT}/backups/{made} && sha256sum --check manifest.json.sha256'")


@with_schedule
def test_a_backup_that_fails_is_seen_until_one_succeeds(deployed: Host) -> None:
    before = sets(deployed)
    deployed.must(f"chown 0:0 {ROOT}/backups")
    try:
        deployed.root(f"systemctl start {BACKUP}.service")
        assert f"{BACKUP}.service" in deployed.root("systemctl --failed --no-legend")
        assert f"journalctl --unit {BACKUP}.service" in status_screen(deployed)
        assert "cannot be written" in deployed.root(f"journalctl --no-pager --unit {BACKUP}.service")
    finally:
        deployed.must(f"chown 10103:10103 {ROOT}/backups")
    assert sets(deployed) == before
    deployed.must(f"systemctl start {BACKUP}.service")
    assert deployed.root("systemctl --failed --no-legend") == ""
    assert "FAILED" not in status_screen(deployed)


@pytest.mark.parametrize("name", ["stack", pytest.param("backup", marks=with_schedule)])
def test_a_unit_is_shut_in(deployed: Host, name: str) -> None:
    verdict = deployed.must(f"systemd-analyze security --no-pager {PROJECT}-{name}.service").splitlines()[-1]
    print(verdict)
    found = re.search(r"exposure level for \S+: (\d+\.\d)", verdict)
    assert found, verdict
    assert float(found[1]) <= WORST_EXPOSURE, verdict


def test_a_check_of_a_deployed_host_changes_nothing_and_shows_no_secret(deployed: Host) -> None:
    before = deployed.containers()
    run = deployed.playbook("deploy", "--check", "--diff", "-vvv")
    assert (run.code, run.recap["changed"]) == (0, 0), run.output[-3000:]
    secrets = deployed.secrets()
    assert len(secrets) >= 5
    assert [name for name, value in secrets.items() if value in run.output] == []
    assert deployed.containers() == before


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        ('{"postgres_settings": {"log_min_duration_statement": "4321ms"}}', {"postgres"}),
        ('{"cache_limits": {"memory_percent": 60, "clients": 500, "eviction": "allkeys-lfu"}}', {"cache"}),
        ('{"edge_hsts": {"max_age_seconds": 4321, "include_subdomains": false, "preload": false}}', set()),
    ],
    ids=["postgres", "cache", "edge"],
)
def test_a_change_touches_only_its_component(deployed: Host, change: str, touched: set[str]) -> None:
    before = deployed.containers()
    run = deployed.playbook("deploy", "-e", change)
    after = deployed.containers()
    assert run.code == 0, run.output[-3000:]
    assert run.recap["changed"] >= 1
    assert {name for name in after if after[name] != before.get(name)} == touched
    assert deployed.playbook("deploy").code == 0


def test_a_reboot_brings_everything_back(deployed: Host) -> None:
    """A restart of the instance: systemd ends, and starts from nothing but the disk."""
    session = deployed.session()
    before, colour = set(deployed.containers()), deployed.root(f"readlink {ROOT}/upstream/current")
    project = f"seawall-molecule-{os.environ['MOLECULE_SCENARIO_NAME']}"
    instances = ["docker", "ps", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    (instance,) = subprocess.run(instances, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["docker", "restart", "--time", "120", instance], capture_output=True, check=True, timeout=300)
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
    stack = unit(deployed, f"{PROJECT}-stack.service", "ActiveState", "Result")
    assert stack == {"ActiveState": "active", "Result": "success"}
    run = deployed.playbook("deploy")
    assert (run.code, run.recap["changed"]) == (0, 0), run.output[-3000:]
