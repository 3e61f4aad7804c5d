"""A boot on which not everything goes well at the first try: what was in charge comes back, and nothing fails in silence."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from deployed import PROJECT, ROOT, Host

TROUBLE = "/etc/systemd/system/docker.service.d/trouble.conf"
# /run is empty after a boot. Postgres starts on a volume that nobody else holds, and ends at once otherwise.
DROP_IN = f"""[Service]
ExecStartPre=/bin/sh -ec 'test -e /run/tried || {{ touch /run/tried; exit 1; }}'
ExecStartPre=systemd-run --no-block --collect flock /var/lib/docker/volumes/{PROJECT}_pgdata/_data/.lock sleep 20
"""


@pytest.fixture
def troubled(deployed: Host) -> Iterator[Host]:
    """The host, whose engine fails at its first start after a boot and whose database cannot start for a while then."""
    deployed.must(f"mkdir -p {TROUBLE.rpartition('/')[0]}")
    deployed.must(f"tee {TROUBLE} <<'END'\n{DROP_IN}END")
    try:
        yield deployed
    finally:
        deployed.must(f"rm {TROUBLE}")
        deployed.must("systemctl daemon-reload")


def test_trouble_at_boot_ends_well(troubled: Host) -> None:
    before = set(troubled.containers())
    # Docker does not bring back what was removed, so this tells whether the unit did.
    troubled.must(f"docker rm --force {PROJECT}-edge-1")
    subprocess.run(["docker", "restart", "--time", "120", troubled.instance], capture_output=True, check=True, timeout=300)
    # systemd itself does not answer at once.
    troubled.console(
        "timeout 240 sh -c 'until systemctl is-system-running --wait | grep -E \"running|degraded\"; do sleep 1; done'"
    )
    assert troubled.console("test -e /run/tried && echo tried") == "tried", "the engine met no trouble, so this proves nothing"
    assert troubled.unit("stack.service", "ActiveState", "Result") == {"ActiveState": "active", "Result": "success"}
    assert troubled.ask("/healthz")[0] == 200
    assert set(troubled.containers()) == before


def test_what_a_killed_run_has_left_undone_is_done_by_the_next(deployed: Host) -> None:
    """Such a run leaves a unit that systemd has not read, and a release that is in charge and in no journal."""
    unit, journal = f"/etc/systemd/system/{PROJECT}-stack.service", f"{ROOT}/releases.jsonl"
    deployed.must(f"sed --in-place s/^Description=.*/Description=Older/ {unit}")
    deployed.must("systemctl daemon-reload")
    deployed.must(f"sed --in-place 's/^Description=.*/Description=Stack of {PROJECT}/' {unit}")
    assert deployed.unit("stack.service", "NeedDaemonReload", "Description") == {
        "NeedDaemonReload": "yes",
        "Description": "Older",
    }
    before = [json.loads(line) for line in deployed.must(f"cat {journal}").splitlines()]
    deployed.must(f"sed --in-place '$d' {journal}")

    run = deployed.playbook("deploy")
    assert run.code == 0, run.output[-3000:]
    found = deployed.unit("stack.service", "NeedDaemonReload", "Description")
    assert found == {"NeedDaemonReload": "no", "Description": f"Stack of {PROJECT}"}
    after = [json.loads(line) for line in deployed.must(f"cat {journal}").splitlines()]
    assert [(line["colour"], line["image"]) for line in after] == [(line["colour"], line["image"]) for line in before]
    # Of the link itself, which `date --reference` would follow.
    renamed = deployed.must(f"stat --format=%Y {ROOT}/upstream/current")
    assert after[-1]["at"] == deployed.must(f"date --utc --date=@{renamed} +%Y-%m-%dT%H:%M:%SZ")
    assert deployed.playbook("deploy").recap["changed"] == 0
