"""The host under the service, asked from another one: what the baseline promises, by trying the opposite."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml
from deployed import REPOSITORY, SETTINGS, Host

UNMEANT_PORT = 9999
DEFAULTS = yaml.safe_load((REPOSITORY / "roles/host_baseline/defaults/main.yml").read_text(encoding="utf-8"))


def opens(deployed: Host, port: int) -> bool:
    """Whether a connection from this machine, which is another host in another network namespace, is answered."""
    try:
        socket.create_connection((deployed.address, port), timeout=3).close()
    except OSError:
        return False
    return True


@contextmanager
def container(deployed: Host, *options: str) -> Iterator[str]:
    """A container of somebody else's on the host, on Docker's default network."""
    image = deployed.must("docker inspect --format '{{.Config.Image}}' seawall-cache-1")
    name = "somebody-elses"
    server = f"{image} valkey-server --port {UNMEANT_PORT} --protected-mode no"
    deployed.must(f"docker run --detach --rm --name {name} {' '.join(options)} {server}")
    try:
        yield name
    finally:
        deployed.must(f"docker rm --force {name}")


@pytest.mark.requirement("BEY-19")
def test_a_published_port_is_open_only_when_it_is_meant_to_be(deployed: Host) -> None:
    with container(deployed, f"--publish {UNMEANT_PORT}:{UNMEANT_PORT}"):
        assert not opens(deployed, UNMEANT_PORT)
        assert opens(deployed, 443)
        assert opens(deployed, 80)
        deployed.must("systemctl stop seawall-firewall.service")
        try:
            assert opens(deployed, UNMEANT_PORT), "without the firewall it must be open, or this test proves nothing"
        finally:
            deployed.must("systemctl start seawall-firewall.service")
        assert not opens(deployed, UNMEANT_PORT)


def reachable(deployed: Host) -> set[tuple[str, int]]:
    """(protocol, port) of what listens on the host itself to more than the host itself."""
    rows = [row.split() for row in deployed.must("ss --no-header --listening --tcp --udp --numeric").splitlines()]
    bound = [(row[0], *row[4].rpartition(":")[::2]) for row in rows]
    return {(protocol, int(port)) for protocol, address, port in bound if not address.strip("[]").startswith(("127.", "::1"))}


@pytest.mark.requirement("BEY-19")
def test_nothing_but_ssh_and_the_edge_listens(deployed: Host) -> None:
    assert reachable(deployed) - {("tcp", 80), ("tcp", 443)} == {("tcp", 22)}
    deployed.must(f"systemd-run --quiet --unit=somebody-elses-server python3 -m http.server {UNMEANT_PORT}")
    try:
        deployed.must(
            f"timeout 20 sh -c 'until ss --listening --tcp --numeric | grep --quiet :{UNMEANT_PORT}; do sleep 0.2; done'"
        )
        assert ("tcp", UNMEANT_PORT) in reachable(deployed), "it must be seen, or this test proves nothing"
    finally:
        deployed.must("systemctl stop somebody-elses-server.service")


def test_what_would_close_another_installation_is_refused(deployed: Host) -> None:
    labels = ("--label com.docker.compose.project=shop", "--label com.docker.compose.service=edge")
    with container(deployed, *labels, f"--publish {UNMEANT_PORT}:{UNMEANT_PORT}"):
        refused = deployed.playbook("check")
        assert refused.code != 0
        told = " ".join(refused.output.split())
        assert f"shop serves on this host too, and the firewall would close its port {UNMEANT_PORT}" in told
        assert "host_baseline_firewall.allowed_published" in told
        named = {"host_baseline_firewall": DEFAULTS["host_baseline_firewall"] | {"allowed_published": [UNMEANT_PORT]}}
        accepted = deployed.playbook("check", "-e", json.dumps(named))
        assert accepted.code == 0, accepted.output[-3000:]


def test_containers_cannot_reach_the_host(deployed: Host) -> None:
    with container(deployed) as name:
        gateway = deployed.must("docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}'")
        ask = f"docker exec {name} timeout 3 valkey-cli -h {gateway} -p 22 ping"
        assert "Protocol error" not in deployed.root(ask)
        deployed.must("systemctl stop seawall-firewall.service")
        try:
            # sshd's greeting is no answer of Valkey's: the connection was made.
            assert "Protocol error" in deployed.root(f"{ask} 2>&1")
        finally:
            deployed.must("systemctl start seawall-firewall.service")


def test_ssh_takes_keys_only(deployed: Host) -> None:
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    command = ["ssh", *options, "-o", "PubkeyAuthentication=no", f"anna@{deployed.address}", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "Permission denied (publickey)" in done.stderr
    key = ["-i", SETTINGS["ansible_ssh_private_key_file"]]
    as_root = subprocess.run(
        ["ssh", *options, *key, f"root@{deployed.address}", "true"], capture_output=True, timeout=30, check=False
    )
    assert as_root.returncode != 0


def test_a_change_that_locks_out_undoes_itself(deployed: Host) -> None:
    """The world comes by eth0, so this firewall lets nobody in; the scenario baseline has sshd and keys, and killed runs."""
    with container(deployed, f"--publish {UNMEANT_PORT}:{UNMEANT_PORT}") as somebody:
        run = deployed.playbook("deploy", "-e", '{"host_baseline_bridges": ["docker0", "docker_gwbridge", "br-*", "eth0"]}')
    assert run.code != 0
    # Whoever published it may have meant it.
    assert f"the firewall lets nobody from outside reach {UNMEANT_PORT} of {somebody}" in " ".join(run.output.split())
    assert "The change of the firewall" in run.output
    assert "is undone" in run.output
    assert opens(deployed, 443)


@pytest.mark.parametrize(
    ("verb", "change", "words"),
    [
        ("deploy", {"host_baseline_sshd_settings": {"NoSuchThing": "yes"}}, "NoSuchThing"),
        ("check", {"host_baseline_firewall": DEFAULTS["host_baseline_firewall"] | {"ssh_port": 2222}}, "would lock you out"),
        ("check", {"ansible_become": False}, "tasks do not run as root"),
    ],
    ids=["sshd", "port", "root"],
)
def test_what_cannot_work_is_refused_before_anything_changes(
    deployed: Host, verb: str, change: dict[str, object], words: str
) -> None:
    before = deployed.must("systemctl show --property StateChangeTimestamp ssh.service seawall-firewall.service")
    run = deployed.playbook(verb, "-e", json.dumps(change))
    assert run.code != 0
    assert words in run.output
    assert deployed.must("systemctl show --property StateChangeTimestamp ssh.service seawall-firewall.service") == before


def test_the_engine_is_hardened(deployed: Host) -> None:
    assert "no-new-privileges" in deployed.must("docker info --format '{{json .SecurityOptions}}'")
    assert deployed.must("docker info --format '{{.LiveRestoreEnabled}}'") == "true"
    bridge = deployed.must("docker network inspect bridge --format '{{json .Options}}'")
    assert '"com.docker.network.bridge.enable_icc":"false"' in bridge


def test_kernel_settings_run_and_last(deployed: Host) -> None:
    own = {name: value for name, value in DEFAULTS["host_baseline_sysctl"].items() if name.startswith("net.")}
    assert len(own) > 10
    for name, value in own.items():
        assert deployed.must(f"sysctl --values {name}") == value
        assert deployed.must(f"grep --fixed-strings '{name} = {value}' /etc/sysctl.d/zz-seawall.conf")
