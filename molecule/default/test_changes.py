"""One change for each component, and only that component is touched."""

from __future__ import annotations

import json

from deployed import DOMAIN, PORT, Host
from steady_client import over_tls

CHANGES: list[tuple[dict[str, dict[str, object]], set[str]]] = [
    ({"postgres_settings": {"log_min_duration_statement": "4321ms"}}, {"postgres"}),
    ({"cache_limits": {"memory_percent": 60, "clients": 500, "eviction": "allkeys-lfu"}}, {"cache"}),
    ({"edge_hsts": {"max_age_seconds": 4321, "include_subdomains": False, "preload": False}}, set()),
]


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


def test_a_change_touches_only_its_component(deployed: Host) -> None:
    """Each change stays while the next one is made, so that there is one way back for all of them."""
    settings: dict[str, dict[str, object]] = {}
    for change, services in CHANGES:
        settings |= change
        assert touched(deployed, settings) == services
    assert strict_transport(deployed) == f"max-age={settings['edge_hsts']['max_age_seconds']}"
    assert touched(deployed, {}) == {"postgres", "cache"}
    assert strict_transport(deployed) == "max-age=63072000; includeSubDomains"
