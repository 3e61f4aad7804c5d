"""Each part of the baseline by what it does, on a host with nothing else; an attacker's side is the scenario's other host."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import testinfra
import yaml
from deployed import COMMAND, CONVERGE, ENVIRONMENT, INVENTORY, REPOSITORY, SETTINGS, Host
from process_tree import end_with_descendants

UNMEANT_PORT = 9999
DEFAULTS = yaml.safe_load((REPOSITORY / "roles/host_baseline/defaults/main.yml").read_text(encoding="utf-8"))
DATAGRAMS = "import socket; s = socket.socket(type=socket.SOCK_DGRAM);"
# They last until the host is restarted.
ADDRESSES = {"debian-12": "fd00:5ea::12", "debian-13": "fd00:5ea::13"}
SSH = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-i", SETTINGS["ansible_ssh_private_key_file"]]
SSH += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]


@pytest.fixture(scope="module")
def neighbour(deployed: Host) -> Host:
    """The other host, in a network namespace of its own."""
    (other,) = {"debian-12", "debian-13"} - {deployed.name}
    return Host(testinfra.get_host(f"ansible://{other}?ansible_inventory={INVENTORY}"))


def ssh(deployed: Host, *words: str, user: str = "deploy") -> subprocess.CompletedProcess[str]:
    """A new connection, by nobody else's."""
    command = [*SSH, f"{user}@{deployed.address}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def opens(client: Host, address: str, port: int) -> bool:
    """Whether a connection from a host to an address is answered; a refusal is an answer that no firewall has dropped."""
    code = f"import socket; socket.create_connection(('{address}', {port}), timeout=3).close()"
    return bool(client.shell.run("python3 -c %s", code).rc == 0)


@contextmanager
def listening(deployed: Host, port: int = UNMEANT_PORT) -> Iterator[None]:
    """A service on every address, by default at a port where nobody meant one to be."""
    deployed.must(f"systemd-run --quiet --unit=listening-{port} python3 -m http.server {port} --bind ::")
    try:
        deadline = time.monotonic() + 20
        while str(port) not in deployed.root("ss --listening --tcp --numeric") and time.monotonic() < deadline:
            time.sleep(0.2)
        yield
    finally:
        deployed.must(f"systemctl stop listening-{port}.service")


def revision(deployed: Host) -> str:
    """The hash that the loaded firewall carries; older releases of nft leave it out of their JSON."""
    (found,) = re.findall(r'^\s+comment "([0-9a-f]{64})"$', deployed.must("nft list table inet seawall"), re.MULTILINE)
    return str(found)


def test_a_check_has_nothing_to_do(deployed: Host) -> None:
    run = deployed.converge("--check", "--diff")
    assert (run.code, run.recap["changed"]) == (0, 0), run.output[-3000:]
    assert deployed.root("systemctl --failed --no-legend") == ""


@pytest.mark.requirement("BEY-19")
def test_a_port_is_open_that_is_allowed_and_no_other_over_ipv4_and_ipv6(deployed: Host, neighbour: Host) -> None:
    for host in (deployed, neighbour):
        host.must("sysctl --quiet --write net.ipv6.conf.eth0.disable_ipv6=0")
        host.must(f"ip -6 address replace {ADDRESSES[host.name]}/64 dev eth0 nodad")
    addresses = [deployed.address, ADDRESSES[deployed.name]]
    (meant,) = SETTINGS["host_baseline_firewall"]["allowed_tcp"]
    with listening(deployed, meant), listening(deployed):
        assert [opens(neighbour, address, meant) for address in addresses] == [True, True]
        assert [opens(neighbour, address, UNMEANT_PORT) for address in addresses] == [False, False]
        assert [opens(neighbour, address, 22) for address in addresses] == [True, True]
        deployed.must("systemctl stop seawall-firewall.service")
        try:
            without = [opens(neighbour, address, UNMEANT_PORT) for address in addresses]
        finally:
            deployed.must("systemctl start seawall-firewall.service")
        assert without == [True, True], "without the firewall it must be open, or this test proves nothing"
        assert [opens(neighbour, address, UNMEANT_PORT) for address in addresses] == [False, False]


@contextmanager
def answering(deployed: Host, port: int) -> Iterator[None]:
    """A program on the host that sends every datagram back."""
    code = f"{DATAGRAMS} s.bind(('', {port})); [s.sendto(*s.recvfrom(9)) for _ in iter(int, 1)]"
    deployed.must(f"systemd-run --quiet --unit=answering-{port} python3 -c {shlex.quote(code)}")
    try:
        deployed.must(f"timeout 20 sh -c 'until ss --listening --udp --numeric | grep --quiet :{port}; do sleep 0.2; done'")
        yield
    finally:
        deployed.must(f"systemctl stop answering-{port}.service")


def answers(client: Host, address: str, port: int) -> bool:
    """Whether a datagram from a host to an address is answered."""
    code = f"{DATAGRAMS} s.settimeout(3); s.sendto(b'?', ('{address}', {port})); s.recv(9)"
    return bool(client.shell.run("python3 -c %s", code).rc == 0)


def test_a_datagram_arrives_on_an_allowed_port_alone(deployed: Host, neighbour: Host) -> None:
    (allowed,) = SETTINGS["host_baseline_firewall"]["allowed_udp"]
    with answering(deployed, allowed), answering(deployed, UNMEANT_PORT):
        assert [answers(neighbour, deployed.address, port) for port in (allowed, UNMEANT_PORT)] == [True, False]
        deployed.must("systemctl stop seawall-firewall.service")
        try:
            assert answers(neighbour, deployed.address, UNMEANT_PORT), "without the firewall it must be answered"
        finally:
            deployed.must("systemctl start seawall-firewall.service")


@contextmanager
def made_unfit(deployed: Host) -> Iterator[None]:
    """The host with all at once that makes a baseline dangerous for whoever is signed in, and another clock's program."""
    broken = "/etc/ssh/sshd_config.d/99-broken.conf"
    fields = "Package: openntpd\nVersion: 0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: empty\n"
    deployed.must(f"sh -c 'mkdir -p /run/empty/DEBIAN && printf \"{fields}\" >/run/empty/DEBIAN/control'")
    deployed.must("sh -c 'dpkg-deb --build /run/empty /run/empty.deb && dpkg --install /run/empty.deb'")
    deployed.must(f"sh -c 'echo NoSuchThing yes >{broken}'")
    deployed.must("systemd-run --quiet --unit=seawall-sshd-undo --on-active=900 true")
    deployed.must("ip link add br-uplink type bridge")
    try:
        deployed.must("ip link set br-uplink up")
        deployed.must("ip route add default dev br-uplink metric 9999")
        yield
    finally:
        deployed.must(f"rm {broken}")
        deployed.must("systemctl stop seawall-sshd-undo.timer")
        deployed.must("ip link delete br-uplink")
        deployed.must("dpkg --purge openntpd")


def test_what_would_lock_out_is_refused_before_anything_changes(deployed: Host) -> None:
    strangers = SETTINGS["host_baseline_firewall"] | {"ssh_networks": ["192.0.2.0/24"]}
    before = ways_in(deployed)
    with made_unfit(deployed):
        run = deployed.converge("-e", json.dumps({"host_baseline_firewall": strangers}))
    assert (run.code == 0, run.recap["changed"]) == (False, 0)
    said = " ".join(run.output.split())
    for words in (
        "a run that was killed has left a change unproved",
        "host_baseline_firewall.ssh_networks (192.0.2.0/24) does not hold",
        "the way out of this host is br-uplink, eth0, which is named like one of Docker's bridges",
        "sshd refuses the configuration that it has now",
        "host_baseline_time_sync.servers is for systemd-timesyncd, but openntpd is installed",
    ):
        assert words in said, said[-3000:]
    assert ways_in(deployed) == before


def test_sshd_forwards_nothing_and_lets_no_root_in(deployed: Host) -> None:
    assert ssh(deployed, "true").returncode == 0
    assert not forwards(deployed)
    deployed.must("install -D -m 0600 /home/anna/.ssh/authorized_keys /root/.ssh/authorized_keys")
    try:
        assert "Permission denied" in ssh(deployed, "true", user="root").stderr
    finally:
        deployed.must("rm -r /root/.ssh")


def forwards(deployed: Host) -> bool:
    """Whether sshd carries a connection on to a port of its own host."""
    forwarded = subprocess.run(
        [*SSH, "-W", "127.0.0.1:22", f"deploy@{deployed.address}"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    assert "SSH-2.0" in forwarded.stdout or "forwarding failed" in forwarded.stderr, forwarded
    return "SSH-2.0" in forwarded.stdout


def test_ssh_is_open_to_the_networks_that_are_named_and_forwards_where_it_is_told_to(deployed: Host, neighbour: Host) -> None:
    on(deployed, "debian-13")
    ours = ssh(deployed, "echo $SSH_CLIENT").stdout.split()[0]
    settings = {
        "host_baseline_firewall": SETTINGS["host_baseline_firewall"] | {"ssh_networks": [f"{ours}/32"]},
        "host_baseline_sshd": DEFAULTS["host_baseline_sshd"] | {"tcp_forwarding": True, "idle_check_seconds": 77},
    }
    assert opens(neighbour, deployed.address, 22)
    changed = deployed.converge("-e", json.dumps(settings))
    assert changed.code == 0, changed.output[-3000:]
    assert not opens(neighbour, deployed.address, 22)
    assert forwards(deployed)
    assert "clientaliveinterval 77" in deployed.must("sshd -T")
    back = deployed.converge()
    assert back.code == 0, back.output[-3000:]
    assert opens(neighbour, deployed.address, 22)
    assert not forwards(deployed)


def test_the_deploy_user_may_become_root_and_nobody_else(deployed: Host) -> None:
    assert ssh(deployed, "sudo", "-n", "id", "-un").stdout == "root\n"
    for other in (["-u", "anna"], ["-g", "anna"], ["-u", "root", "-g", "shadow"]):
        refused = ssh(deployed, "sudo", "-n", *other, "id", "-un")
        assert (refused.returncode == 0, refused.stdout) == (False, ""), other
    # Without sudo it is a user like any other, and no password opens it.
    assert ssh(deployed, "id", "-Gn").stdout == "deploy\n"
    assert ssh(deployed, "cat", "/etc/shadow").returncode != 0
    assert deployed.must("getent shadow deploy").split(":")[1] == "*"


@contextmanager
def drop_in(deployed: Host, service: str, lines: str) -> Iterator[None]:
    """A service that has been started with other settings, until the block ends."""
    directory = f"/run/systemd/system/{service}.d"
    deployed.must(f"mkdir -p {directory}")
    deployed.must(f"printf '%s\\n' {lines} >{directory}/test.conf")
    try:
        deployed.must("systemctl daemon-reload")
        deployed.must(f"systemctl restart {service}")
        yield
    finally:
        deployed.must(f"rm -r {directory}")
        deployed.must("systemctl daemon-reload")


def complaints_of_journald(deployed: Host) -> list[str]:
    """What journald says about its settings as it starts: to a file, as its own journal never gets that in a container."""
    lines = "[Service] Environment=SYSTEMD_LOG_TARGET=console StandardError=truncate:/run/journald-says"
    try:
        with drop_in(deployed, "systemd-journald.service", lines):
            return [line for line in deployed.must("cat /run/journald-says").splitlines() if ".conf" in line]
    finally:
        deployed.must("systemctl restart systemd-journald.service")


def test_journald_understands_its_settings(deployed: Host) -> None:
    assert complaints_of_journald(deployed) == []
    said = deployed.must("journalctl --boot --unit systemd-journald.service --output cat")
    # The one release writes 80.0M, the other 80M.
    assert re.search(r"System Journal .* max 80(\.0)?M", said), said
    odd = "/etc/systemd/journald.conf.d/odd.conf"
    deployed.must(f"printf '%s\\n' [Journal] NoSuchThing=1 >{odd}")
    try:
        assert "NoSuchThing" in " ".join(complaints_of_journald(deployed)), "else nobody would have complained above"
    finally:
        deployed.must(f"rm {odd}")


def test_timesyncd_asks_the_servers_that_were_set(deployed: Host) -> None:
    """In a container its unit refuses to start; here it may, without the capability that would set a clock."""
    lines = "[Unit] ConditionVirtualization= ConditionCapability= [Service] CapabilityBoundingSet= AmbientCapabilities="
    try:
        with drop_in(deployed, "systemd-timesyncd.service", lines):
            shown = deployed.must("timedatectl show-timesync --property SystemNTPServers --value")
            assert shown.split() == SETTINGS["host_baseline_time_sync"]["servers"]
    finally:
        deployed.root("systemctl stop systemd-timesyncd.service")


def test_unattended_upgrades_take_security_updates_alone(deployed: Host) -> None:
    said = deployed.must("unattended-upgrade --dry-run --debug 2>&1")
    release = {"debian-12": "bookworm", "debian-13": "trixie"}[deployed.name]
    (allowed,) = {line.partition(": ")[2] for line in said.splitlines() if "Allowed origins are" in line}
    first, *others = allowed.split(", ")
    assert first == f"origin=Debian,codename={release}-security,label=Debian-Security"
    assert all(other.startswith("origin=Ubuntu") for other in others), allowed
    settings = deployed.must("apt-config dump Unattended-Upgrade")
    assert 'Unattended-Upgrade::Automatic-Reboot "true";' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot-Time "03:21";' in settings
    assert deployed.must("systemctl is-active apt-daily.timer apt-daily-upgrade.timer").split() == ["active"] * 2


def test_a_crash_leaves_no_core_dump(deployed: Host) -> None:
    if deployed.must("cat /proc/sys/kernel/core_pattern") != "core":
        pytest.skip("the machine under the containers hands core dumps to a program of its own")
    run = "systemd-run --quiet --wait --collect --property WorkingDirectory=/var/tmp/cores"
    # Its end by a signal is 255, which would be taken for a broken connection.
    crash = "python3 -c 'import os; os.abort()' || true"
    deployed.must("mkdir -p /var/tmp/cores")
    try:
        deployed.root(f"{run} {crash}")
        assert deployed.must("ls /var/tmp/cores") == ""
        deployed.root(f"{run} --property LimitCORE=infinity {crash}")
        assert deployed.must("ls /var/tmp/cores").startswith("core"), "else nothing is ever dumped here"
    finally:
        deployed.must("rm -r /var/tmp/cores")
    # Of those who sign in; the limit is a hard one.
    assert ssh(deployed, "ulimit", "-Hc").stdout == "0\n"


# A key that nobody has.
NOBODYS_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
# Changes that lock out, by the name of the switch: the variables, and what is so on the host once the change is made.
LOCKOUTS: dict[str, tuple[dict[str, object], str]] = {
    # The world comes by eth0, so this firewall lets nobody in.
    "firewall": (
        {"host_baseline_bridges": ["docker0", "docker_gwbridge", "br-*", "eth0"]},
        "nft list table inet seawall | grep --quiet 'iifname .eth0. counter'",
    ),
    "sshd": (
        {"host_baseline_sshd_settings": {"AllowUsers": "nobody-of-this-name"}},
        "grep --quiet nobody-of-this-name /etc/ssh/sshd_config.d/00-seawall.conf",
    ),
    "keys": (
        {"ansible_user": "deploy", "host_baseline_deploy_user": {"name": "deploy", "authorized_keys": [NOBODYS_KEY]}},
        f"grep --quiet '{NOBODYS_KEY}' /home/deploy/.ssh/authorized_keys",
    ),
}


def ways_in(deployed: Host) -> list[str]:
    """All that decides who comes in, as it runs and as a reboot would find it."""
    keys = deployed.console("cat /home/deploy/.ssh/authorized_keys")
    mounted = deployed.console("findmnt --list --noheadings --output TARGET | grep -E '/etc/ssh|/home/deploy' || true")
    return [deployed.console("nft list table inet seawall | grep comment"), deployed.console("sshd -T"), keys, mounted]


def kill_once_changed(deployed: Host, lockout: str, seconds: int, log: Path) -> None:
    """A run that dies when the change is made and not yet proved."""
    variables, is_made = LOCKOUTS[lockout]
    change = json.dumps(variables | {"host_baseline_guard_seconds": seconds})
    command = [*COMMAND, "--limit", deployed.name, CONVERGE, "-e", change]
    with log.open("w") as output, subprocess.Popen(command, cwd=REPOSITORY, env=ENVIRONMENT, stdout=output, stderr=output) as run:
        try:
            watch = shlex.quote(f"until {is_made}; do sleep 0.1; done")
            deployed.console(f"timeout 240 sh -c {watch}")
        except subprocess.CalledProcessError:
            pytest.fail(f"the change was never made:\n{log.read_text(encoding='utf-8')[-3000:]}")
        finally:
            end_with_descendants(run.pid)


def armed(deployed: Host, lockout: str) -> bool:
    return deployed.console(f"systemctl is-active seawall-{lockout}-undo.timer || true") == "active"


def locked_out(deployed: Host, lockout: str) -> bool:
    """Whether SSH is refused while the switch is armed; no when the switch is over first."""
    while armed(deployed, lockout):
        if ssh(deployed, "true").returncode != 0 and armed(deployed, lockout):
            return True
        time.sleep(0.2)
    return False


def comes_back(deployed: Host, seconds: int) -> None:
    deadline = time.monotonic() + seconds
    while ssh(deployed, "true").returncode != 0:
        assert time.monotonic() < deadline, "SSH did not come back"
        time.sleep(2)


def on(deployed: Host, release: str) -> None:
    """Each takes minutes, so each is shown on one of the two releases, and every kind of change on both."""
    if deployed.name != release:
        pytest.skip(f"shown on {release}")


@pytest.mark.parametrize(("lockout", "release"), [("firewall", "debian-13"), ("sshd", "debian-12")])
def test_a_killed_run_that_locked_out_is_undone_by_the_host_itself(
    deployed: Host, tmp_path: Path, lockout: str, release: str
) -> None:
    on(deployed, release)
    before = ways_in(deployed)
    # On a busy machine the switch may be over before anybody has looked, which proves nothing.
    for seconds in (30, 60, 120, 240):
        kill_once_changed(deployed, lockout, seconds, tmp_path / "log")
        if locked_out(deployed, lockout):
            break
    else:
        pytest.fail("SSH was never refused while the switch was armed")
    comes_back(deployed, seconds + 60)
    assert not armed(deployed, lockout)
    assert ways_in(deployed) == before
    # The candidate is all that the killed run has left.
    again = deployed.converge()
    assert (again.code, again.recap["changed"]) == (0, 0), again.output[-3000:]


@pytest.mark.parametrize(("lockout", "release"), [("sshd", "debian-13"), ("keys", "debian-12")])
def test_a_reboot_undoes_what_is_not_proved_and_brings_back_the_rest(
    deployed: Host, neighbour: Host, tmp_path: Path, lockout: str, release: str
) -> None:
    """Who is locked out may well restart the host from its console, and takes the timer away by it."""
    on(deployed, release)
    before = ways_in(deployed)
    booted = deployed.must("systemctl show --property UserspaceTimestampMonotonic --value")
    kill_once_changed(deployed, lockout, 3600, tmp_path / "log")
    assert locked_out(deployed, lockout)
    subprocess.run(["docker", "restart", "--time", "120", deployed.instance], capture_output=True, check=True, timeout=300)
    comes_back(deployed, 120)
    assert deployed.must("systemctl is-system-running --wait") == "running"
    assert deployed.must("systemctl show --property UserspaceTimestampMonotonic --value") != booted
    assert ways_in(deployed) == before
    with listening(deployed):
        assert not opens(neighbour, deployed.address, UNMEANT_PORT)
        assert opens(neighbour, deployed.address, 22)
    again = deployed.converge()
    assert (again.code, again.recap["changed"]) == (0, 0), again.output[-3000:]


@pytest.mark.parametrize(("lockout", "release"), [("sshd", "debian-12"), ("keys", "debian-13")])
def test_a_switch_that_is_over_before_anybody_comes_in_has_undone_the_change(deployed: Host, lockout: str, release: str) -> None:
    """However slow the host is, the change does not come after its undoing."""
    on(deployed, release)
    before = ways_in(deployed)
    run = deployed.converge("-e", json.dumps(LOCKOUTS[lockout][0] | {"host_baseline_guard_seconds": 1}))
    assert run.code != 0
    assert "did not work out and is undone" in " ".join(run.output.split())
    assert ways_in(deployed) == before
    again = deployed.converge()
    assert (again.code, again.recap["changed"]) == (0, 0), again.output[-3000:]


def test_the_switch_goes_back_to_the_rules_that_ran_and_not_to_those_on_the_disk(deployed: Host) -> None:
    """They differ after a run that was killed once its rules were proved, and nobody may then be left without a firewall."""
    installed, proved = revision(deployed), "0" * 64
    candidate = "/run/seawall-firewall-candidate.conf"
    deployed.must(f"sed s/{installed}/{proved}/ /etc/nftables-seawall.conf >/run/proved && mv /run/proved {candidate}")
    deployed.must(f"nft --file {candidate}")
    before = ways_in(deployed)
    run = deployed.converge("-e", json.dumps(LOCKOUTS["firewall"][0] | {"host_baseline_guard_seconds": 1}))
    assert run.code != 0
    assert "the firewall did not work out and is undone" in " ".join(run.output.split())
    assert ways_in(deployed) == before
    assert revision(deployed) == proved
    again = deployed.converge()
    assert again.code == 0, again.output[-3000:]
    assert revision(deployed) == installed


def test_auditd_is_refused_where_the_kernel_lets_nobody_audit(deployed: Host) -> None:
    """Last, as it installs a package: no container may audit, so what can be seen here is that nothing half-done stays."""
    parts = dict.fromkeys(["auditd"], True) | dict.fromkeys(
        ["firewall", "sshd", "sysctl", "unattended_upgrades", "time_sync", "journald", "core_dumps", "deploy_user"], False
    )
    run = deployed.converge("-e", json.dumps({"host_baseline_parts": parts}))
    assert run.code != 0
    assert "set host_baseline_parts.auditd to false" in run.output
    assert deployed.root("ls /etc/audit/rules.d/60-seawall.rules") == ""
