"""An authority's certificate on a host with systemd: issued by the first deploy, and renewed by the timer with nobody there."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time

import pytest
from deployed import DOMAIN, PORT, PROJECT, ROOT, Host

SERVICE, TIMER = f"{PROJECT}-acme.service", f"{PROJECT}-acme.timer"
RENEWAL_SECONDS = 120
# Measured: docs/security.md. More than that of the other units, as it gives the edge its key.
WORST_EXPOSURE = 1.5
# certbot in the one-shot container that renewals use.
JOB = (
    f"docker compose --project-name {PROJECT} --file {ROOT}/compose/stack.yml run --rm --no-deps --no-TTY "
    "--env REQUESTS_CA_BUNDLE=/etc/seawall/acme/ca_bundle.pem acme"
)


def certificate(deployed: Host) -> bytes:
    """What a client gets that trusts the authority and nobody else."""
    context = ssl.create_default_context(cadata=deployed.authority)
    with (
        socket.create_connection((deployed.address, PORT), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=DOMAIN) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def take_back(deployed: Host) -> None:
    """As after an incident: the authority revokes, and its renewal information says at once."""
    state = deployed.must(f"ls {ROOT}/acme/state")
    directory = f"/var/lib/seawall-acme/state/{state}"
    server = json.loads(deployed.must(f"cat {ROOT}/acme/config/wanted.json"))["directory_url"]
    options = f"--config-dir={directory} --work-dir=/tmp/work --logs-dir=/tmp/logs --non-interactive"
    revoke = f"certbot revoke --cert-name=seawall --server={server} --reason=superseded --no-delete-after-revoke"
    deployed.must(f"{JOB} {revoke} {options}")
    # As when the hours are over that the authority has named to the timer, which may have run since the deploy.
    deployed.must(f"sed --in-place /ari_retry_after/d {ROOT}/acme/state/{state}/renewal/seawall.conf")


def test_the_timer_runs_and_tells_when(deployed: Host) -> None:
    shown = deployed.unit("acme.timer", "LoadState", "ActiveState", "UnitFileState", "NextElapseUSecRealtime")
    assert (shown["LoadState"], shown["ActiveState"], shown["UnitFileState"]) == ("loaded", "active", "enabled")
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:00:00", shown["NextElapseUSecRealtime"]), shown


@pytest.mark.requirement("BEY-14")
def test_the_timer_renews_what_the_authority_takes_back(deployed: Host) -> None:
    before, containers = certificate(deployed), deployed.containers()
    take_back(deployed)
    # As on a host that was off when the hour came.
    deployed.must(f"systemctl stop {TIMER}")
    deployed.must(f"touch --date='2 hours ago' /var/lib/systemd/timers/stamp-{TIMER}")
    deployed.must(f"systemctl start {TIMER}")
    deadline = time.monotonic() + RENEWAL_SECONDS
    while certificate(deployed) == before:
        assert time.monotonic() < deadline, deployed.root(f"systemctl status --no-pager {TIMER} {SERVICE}")
        time.sleep(1)
    deployed.must(f"timeout 60 sh -c 'while systemctl is-active {SERVICE} | grep ing; do sleep 0.5; done'")
    assert deployed.unit("acme.service", "Result") == {"Result": "success"}
    assert deployed.containers() == containers
    run = deployed.playbook("deploy", "--check")
    assert (run.code, run.recap["changed"]) == (0, 0), run.output[-3000:]


def test_a_renewal_that_fails_is_seen_until_one_succeeds(deployed: Host) -> None:
    before = certificate(deployed)
    owner = deployed.must(f"stat --format=%u:%g {ROOT}/acme/state")
    deployed.must(f"chown 0:0 {ROOT}/acme/state")
    try:
        deployed.root(f"systemctl start {SERVICE}")
        assert SERVICE in deployed.root("systemctl --failed --no-legend")
        assert f"journalctl --unit {SERVICE}" in deployed.status_screen()
    finally:
        deployed.must(f"chown {owner} {ROOT}/acme/state")
    assert certificate(deployed) == before
    deployed.must(f"systemctl start {SERVICE}")
    assert deployed.root("systemctl --failed --no-legend") == ""
    assert "FAILED" not in deployed.status_screen()


def test_the_unit_is_shut_in(deployed: Host) -> None:
    assert deployed.exposure("acme.service") <= WORST_EXPOSURE
