"""One change for each component, and only that component is touched."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import yaml
from cryptography import x509
from deployed import DOMAIN, PORT, PROJECT, REPOSITORY, Host
from steady_client import over_tls

DEFAULTS: dict[str, dict[str, object]] = {}
for file in REPOSITORY.glob("roles/*/defaults/main.yml"):
    DEFAULTS |= yaml.safe_load(file.read_text(encoding="utf-8")) or {}

CHANGES: list[tuple[dict[str, object], set[str]]] = [
    ({"api_runtime": DEFAULTS["api_runtime"] | {"log_level": "warning"}}, {"api-blue", "auth-blue", "api-green", "auth-green"}),
    ({"postgres_settings": {"log_min_duration_statement": "4321ms"}}, {"postgres"}),
    ({"cache_limits": {"memory_percent": 60, "clients": 500, "eviction": "allkeys-lfu"}}, {"cache"}),
    # What the edge reads, none of which touches a container.
    (
        {
            "edge_hsts": {"max_age_seconds": 4321, "include_subdomains": False, "preload": False},
            # So the one of the first deploy, which lasts a year, is due.
            "tls_self_signed": DEFAULTS["tls_self_signed"] | {"days": 800, "renew_before_days": 500},
        },
        set(),
    ),
]

TIMER = ("backup.timer", "NextElapseUSecRealtime")

# Units that a change of the host's own settings is none of the business of, and those that must take it.
OTHERS = ("docker", "seawall-firewall", "systemd-timesyncd", f"{PROJECT}-stack", "unattended-upgrades")
CONCERNED = ("systemd-journald", "ssh")
OPENED = 4321


def touched(deployed: Host, settings: Mapping[str, object]) -> set[str]:
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


def changes_of_state(deployed: Host, units: Iterable[str]) -> dict[str, str]:
    """Of each unit when it was last started, stopped or reloaded."""
    return {
        unit: deployed.must(
            f"systemctl show --property StateChangeTimestampMonotonic,ActiveEnterTimestampMonotonic {unit}.service"
        )
        for unit in units
    }


def what_the_host_does_by_itself(deployed: Host) -> dict[str, object]:
    """When backups run, how much the journal keeps, how one signs in, and what is open: no container is touched."""
    before, since = changes_of_state(deployed, OTHERS), changes_of_state(deployed, CONCERNED)
    settings: dict[str, object] = {
        "backup_schedule": DEFAULTS["backup_schedule"] | {"on_calendar": "*-*-* 12:34:00", "randomized_delay_seconds": 0},
        "host_baseline_journald": DEFAULTS["host_baseline_journald"] | {"max_use": "321M"},
        "host_baseline_sshd": DEFAULTS["host_baseline_sshd"] | {"login_grace_seconds": 43},
        "host_baseline_firewall": DEFAULTS["host_baseline_firewall"] | {"allowed_tcp": [OPENED]},
    }
    assert touched(deployed, settings) == set()
    assert " 12:34:00" in deployed.unit(*TIMER)["NextElapseUSecRealtime"]
    after = changes_of_state(deployed, CONCERNED)
    assert [unit for unit in CONCERNED if after[unit] == since[unit]] == []
    assert "logingracetime 43" in deployed.must("sshd -T").splitlines()
    assert str(OPENED) in deployed.must("nft list ruleset")
    assert changes_of_state(deployed, OTHERS) == before
    return settings


def days_of_certificate(deployed: Host) -> int:
    """How long the certificate is good for that the edge shows."""
    connection = over_tls(deployed.address, PORT, DOMAIN, deployed.authority)()
    connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    certificate = x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True) or b"")
    connection.close()
    return (certificate.not_valid_after_utc - datetime.now(UTC)).days


def test_a_change_touches_only_its_component(deployed: Host) -> None:
    """Each change stays while the next one is made, so that there is one way back for all of them."""
    assert days_of_certificate(deployed) < 366
    settings = what_the_host_does_by_itself(deployed)
    for change, services in CHANGES:
        settings |= change
        assert touched(deployed, settings) == services
    assert strict_transport(deployed) == "max-age=4321"
    assert days_of_certificate(deployed) > 790
    assert deployed.must(f"docker exec {PROJECT}-postgres-1 psql -XAtc 'SHOW log_min_duration_statement'") == "4321ms"
    assert touched(deployed, {}) == {"postgres", "cache", "api-blue", "auth-blue", "api-green", "auth-green"}
    assert strict_transport(deployed) == "max-age=63072000; includeSubDomains"
    assert "logingracetime 30" in deployed.must("sshd -T").splitlines()
    assert str(OPENED) not in deployed.must("nft list ruleset")
    assert " 03:" in deployed.unit(*TIMER)["NextElapseUSecRealtime"]
