"""One change for each component, and only that component is touched."""

from __future__ import annotations

import json

import yaml
from deployed import DOMAIN, PORT, PROJECT, REPOSITORY, Host
from steady_client import over_tls

DEFAULTS: dict[str, dict[str, object]] = {}
for file in REPOSITORY.glob("roles/*/defaults/main.yml"):
    DEFAULTS |= yaml.safe_load(file.read_text(encoding="utf-8")) or {}

CHANGES: list[tuple[dict[str, dict[str, object]], set[str]]] = [
    ({"api_runtime": DEFAULTS["api_runtime"] | {"log_level": "warning"}}, {"api-blue", "auth-blue", "api-green", "auth-green"}),
    ({"postgres_settings": {"log_min_duration_statement": "4321ms"}}, {"postgres"}),
    ({"cache_limits": {"memory_percent": 60, "clients": 500, "eviction": "allkeys-lfu"}}, {"cache"}),
    ({"edge_hsts": {"max_age_seconds": 4321, "include_subdomains": False, "preload": False}}, set()),
]

TIMER = ("backup.timer", "NextElapseUSecRealtime")

# What a deploy may have to start anew on the host, and must not.
UNITS = ("ssh", "docker", "seawall-firewall", "systemd-timesyncd", f"{PROJECT}-stack", "unattended-upgrades")


def touched(deployed: Host, settings: dict[str, dict[str, object]]) -> set[str]:
    """The services whose containers a deploy with these settings has made anew or restarted."""
    before = deployed.containers()
    run = deployed.playbook("deploy", "-e", json.dumps(settings))
    assert run.code == 0, run.output[-3000:]
    assert run.recap["changed"] >= 1
    after = deployed.containers()
    return {name for name in before | after if after.get(name) != before.get(name)}


def strict_transport(deployed: Host) -> str:
    """What browsers keep, and nobody can take back."""
    connection = over_tls(deployed.address, PORT, DOMAIN, deployed.authority)()
    connection.request("GET", "/healthz")
    found = connection.getresponse().headers["Strict-Transport-Security"]
    connection.close()
    return found


def what_the_host_does_by_itself(deployed: Host) -> dict[str, dict[str, object]]:
    """When backups run, and how much the journal keeps: neither touches a container or another unit."""
    others = f"systemctl show --property Id,StateChangeTimestampMonotonic {' '.join(f'{name}.service' for name in UNITS)}"
    journal = "systemctl show --property ActiveEnterTimestampMonotonic systemd-journald.service"
    before, journal_since = deployed.must(others), deployed.must(journal)
    settings = {
        "backup_schedule": DEFAULTS["backup_schedule"] | {"on_calendar": "*-*-* 12:34:00", "randomized_delay_seconds": 0},
        "host_baseline_journald": DEFAULTS["host_baseline_journald"] | {"max_use": "321M"},
    }
    assert touched(deployed, settings) == set()
    assert " 12:34:00" in deployed.unit(*TIMER)["NextElapseUSecRealtime"]
    assert deployed.must(journal) != journal_since
    assert deployed.must(others) == before
    return settings


def test_a_change_touches_only_its_component(deployed: Host) -> None:
    """Each change stays while the next one is made, so that there is one way back for all of them."""
    settings = what_the_host_does_by_itself(deployed)
    for change, services in CHANGES:
        settings |= change
        assert touched(deployed, settings) == services
    assert strict_transport(deployed) == f"max-age={settings['edge_hsts']['max_age_seconds']}"
    assert deployed.must(f"docker exec {PROJECT}-postgres-1 psql -XAtc 'SHOW log_min_duration_statement'") == "4321ms"
    assert touched(deployed, {}) == {"postgres", "cache", "api-blue", "auth-blue", "api-green", "auth-green"}
    assert strict_transport(deployed) == "max-age=63072000; includeSubDomains"
    assert " 03:" in deployed.unit(*TIMER)["NextElapseUSecRealtime"]
