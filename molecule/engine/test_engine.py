"""The engine alone on a bare host: where it came from, what it was told, and what a container then runs with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from deployed import Host

PIN = "/etc/apt/preferences.d/seawall-docker-plugins"
UPGRADE = "apt-get --simulate dist-upgrade"
# The command cat and its libraries are all that the image holds.
FILES = "/bin/cat $(ldd /bin/cat | grep --only-matching '/[^ ]*')"
IMPORT = f"tar --create --dereference --absolute-names {FILES} | docker import - only-cat"


@pytest.fixture(scope="module")
def image(deployed: Host) -> Iterator[str]:
    deployed.must(IMPORT)
    yield "only-cat"
    deployed.must("docker image rm only-cat")


def test_it_runs_under_systemd_and_after_a_boot(deployed: Host) -> None:
    assert deployed.root("systemctl is-active docker.service") == "active"
    assert deployed.root("systemctl is-enabled docker.service") == "enabled"
    assert deployed.root("systemctl --failed --no-legend") == ""


def test_everything_is_the_distributions(deployed: Host) -> None:
    assert deployed.must("dpkg-query --search /usr/bin/docker /usr/sbin/dockerd").count("docker") >= 2
    plugins = json.loads(deployed.must("docker info --format '{{json .ClientInfo.Plugins}}'"))
    found = {plugin["Name"]: plugin["Path"] for plugin in plugins}
    assert set(found) == {"buildx", "compose"}
    owners = deployed.must(f"dpkg-query --search {' '.join(found.values())}")
    assert {line.partition(":")[0] for line in owners.splitlines()} == {"docker-buildx", "docker-compose"}


def test_a_check_has_nothing_to_do(deployed: Host) -> None:
    before = deployed.must("systemctl show --property StateChangeTimestamp docker.service")
    run = deployed.converge("--check", "--diff")
    assert (run.code, run.recap["changed"]) == (0, 0), run.output[-3000:]
    assert deployed.must("systemctl show --property StateChangeTimestamp docker.service") == before


def test_settings_of_the_owner_are_kept(deployed: Host) -> None:
    settings = json.loads(deployed.must("cat /etc/docker/daemon.json"))
    assert (settings["live-restore"], settings["no-new-privileges"], settings["icc"]) == (True, True, False)
    owners = deployed.name == "debian-13"
    assert settings.get("max-concurrent-downloads") == (2 if owners else None)
    # The options of one log driver would stop the engine under another.
    assert settings.get("log-opts") == (None if owners else {"max-size": "10m", "max-file": "5"})
    assert deployed.must("docker info --format '{{.LoggingDriver}}'") == ("local" if owners else "json-file")


def candidates(deployed: Host, packages: str) -> dict[str, str]:
    """Package -> the version that apt would install."""
    found: dict[str, str] = {}
    package = ""
    for line in deployed.must(f"apt-cache policy {packages}").splitlines():
        if not line.startswith(" "):
            package = line.rstrip(":")
        elif line.startswith("  Candidate: "):
            found[package] = line.removeprefix("  Candidate: ")
    return found


def test_only_the_plugins_can_come_from_the_newer_release(deployed: Host) -> None:
    plugins = {"docker-buildx", "docker-compose"}
    names = [name for name in deployed.must("dpkg-query --show --showformat '${Package} '").split() if name not in plugins]
    # The newer release alone has the last one.
    packages = " ".join([*names, "docker-cli"])
    if deployed.name == "debian-13":
        assert deployed.root(f"ls {PIN}") == ""
        return
    # Both priorities and candidates: an update of them comes by itself.
    told = deployed.must("apt-cache policy docker-compose docker-buildx")
    assert re.findall(r"^ \*\*\* \S+ (\d+)$", told, re.MULTILINE) == ["990", "990"], told
    assert re.findall(r"Installed: (\S+)", told) == re.findall(r"Candidate: (\S+)", told)
    pinned = candidates(deployed, packages)
    assert len(pinned) > 100
    assert pinned["docker-cli"] == "(none)"
    assert "Debian:13" not in deployed.must(UPGRADE)
    deployed.must(f"mv {PIN} /run/pin")
    try:
        assert candidates(deployed, packages)["docker-cli"] != "(none)"
        assert "Debian:13" in deployed.must(UPGRADE), "without the pin it would come, or this test proves nothing"
    finally:
        deployed.must(f"mv /run/pin {PIN}")


def test_a_container_gains_no_privilege(deployed: Host, image: str) -> None:
    status = deployed.must(f"docker run --rm {image} /bin/cat /proc/self/status")
    assert "NoNewPrivs:\t1" in status
    # On request a container gets less than that, so it was the engine's setting.
    freed = deployed.must(f"docker run --rm --security-opt no-new-privileges=false {image} /bin/cat /proc/self/status")
    assert "NoNewPrivs:\t0" in freed


def test_a_container_outlives_a_restart_of_the_engine(deployed: Host, image: str) -> None:
    container = deployed.must(f"docker run --detach --interactive {image} /bin/cat")
    ask = f"docker inspect --format '{{{{.State.Pid}}}} {{{{.State.Running}}}} {{{{.RestartCount}}}}' {container}"
    before = deployed.must(ask)
    deployed.must("systemctl restart docker.service")
    try:
        assert deployed.must(ask) == before
        assert before.split()[1:] == ["true", "0"]
    finally:
        deployed.must(f"docker rm --force {container}")


def test_an_install_waits_for_whoever_else_installs(deployed: Host) -> None:
    """As the timer of security updates does, of which apt waits for the end and dpkg does not."""
    deployed.must("dpkg --remove docker-buildx")
    lock = "f = open('/var/lib/dpkg/lock-frontend', 'w'); import fcntl, time; fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(30)"
    deployed.must(f'systemd-run --quiet --unit=somebody-elses-apt python3 -c "{lock}"')
    run = deployed.converge()
    assert run.code == 0, run.output[-3000:]
    assert "Finish what a killed run was configuring" in run.output.partition("RETRYING")[2]
    assert deployed.must("dpkg-query --show --showformat '${db:Status-Status}' docker-buildx") == "installed"


def test_settings_that_the_engine_refuses_do_not_stay(deployed: Host) -> None:
    """The older release can be asked only by starting it; where they did stay away, no engine runs without ours either."""
    deployed.must("systemctl stop docker.socket docker.service")
    deployed.must("sh -c 'rm /etc/docker/daemon.json*'")
    before = deployed.must("ls /etc/docker")
    run = deployed.converge("-e", json.dumps({"docker_engine_daemon": {"no-such-setting": True}}))
    assert run.code != 0
    said = " ".join(run.output.split())
    assert "no-such-setting" in said.rpartition("fatal:")[2], said[-3000:]
    assert "docker_engine_daemon, and run the same command again" in said
    assert deployed.must("ls /etc/docker") == before
    assert deployed.root("systemctl is-active docker.service") != "active"
    again = deployed.converge()
    assert again.code == 0, again.output[-3000:]
    assert json.loads(deployed.must("cat /etc/docker/daemon.json"))["no-new-privileges"] is True
    assert deployed.must("docker info --format '{{.LiveRestoreEnabled}}'") == "true"
