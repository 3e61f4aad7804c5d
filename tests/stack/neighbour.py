"""A deployed stack beside the tests: it went through a power cut before they began, and they must not touch it.

While they run it is paused, so that its health checks do not take a tenth of a processor from them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import browser
import judges
import pytest
from installation import HTTPS_PORT, PROJECT, REPOSITORY, containers, docker, images, running, seawall
from process_tree import descendants

SETTINGS = Path(__file__).with_name("neighbour.yml")
NEIGHBOUR = "seawall-neighbour"
ROOT = Path("/opt/seawall-neighbour")
# One that somebody else has made while the tests ran.
IMAGE = "seawall/service:made-beside-the-tests"
HEALTH = "https://localhost:28443/healthz"
# Set by tests/run when no engine ran before: only then is it ours to stop.
ENGINE_IS_OURS = os.environ.get("SEAWALL_TEST_ENGINE_IS_OURS") == "yes"


@dataclass(frozen=True)
class State:
    """What the tests could have touched."""

    containers: dict[str, tuple[str, str]]
    volumes: list[str]
    networks: list[str]
    files: dict[str, tuple[int, int, int, str]]


def state() -> State:
    """The neighbour as it is: ids and starts of containers, volumes, networks, and owner, mode and content of each file."""
    label = f"label=com.docker.compose.project={NEIGHBOUR}"
    files = {}
    for path in sorted(ROOT.rglob("*")):
        status = path.lstat()
        regular = path.is_file() and not path.is_symlink()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if regular else str(path.readlink()) if path.is_symlink() else ""
        files[str(path)] = (status.st_mode, status.st_uid, status.st_gid, content)
    return State(
        running(NEIGHBOUR),
        docker("volume", "ls", "--quiet", "--filter", label).split(),
        docker("network", "ls", "--quiet", "--filter", label).split(),
        files,
    )


def playbook(name: str) -> None:
    command = ["ansible-playbook", f"tests/{name}.yml"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def remove() -> None:
    if ROOT.exists() or containers(NEIGHBOUR):
        go_on()
        (ROOT / "first-sign-in").unlink(missing_ok=True)
        run = seawall("teardown", "-e", f"confirm={NEIGHBOUR}", "-e", "delete_data=true", settings=SETTINGS)
        assert run.code == 0, run.output[-3000:]
    assert containers(NEIGHBOUR) == {}
    if IMAGE in images():
        docker("image", "rm", IMAGE)


def build_an_image(existing: set[str]) -> None:
    """What a deploy of another checkout leaves when it runs beside the tests."""
    docker("image", "tag", next(name for name in existing if name.startswith("seawall/service:")), IMAGE)


def pause() -> None:
    docker("pause", *(entry["Id"] for entry in containers(NEIGHBOUR).values()))


def go_on() -> None:
    """For a run that was ended while it was paused, too."""
    if paused := [entry["Id"] for entry in containers(NEIGHBOUR).values() if entry["State"]["Paused"]]:
        docker("unpause", *paused)


def answers() -> bool:
    context = ssl.create_default_context(cafile=str(ROOT / "tls/ca.pem"))
    with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(HEALTH, timeout=5, context=context) as answer:
        return bool(answer.status == 200)
    return False


def wait_until_it_answers() -> None:
    deadline = time.monotonic() + 120
    while not answers():
        assert time.monotonic() < deadline, {name: entry["State"] for name, entry in containers(NEIGHBOUR).items()}
        time.sleep(1)


def leave_an_old_container() -> None:
    """What a killed run of an older state may have left: a container of the tests' own project, on their port."""
    image = containers(NEIGHBOUR)["cache"]["Config"]["Image"]
    labels = {"project": PROJECT, "service": "edge", "oneoff": "False", "container-number": "1", "config-hash": "old"}
    options = [f"--label=com.docker.compose.{name}={value}" for name, value in labels.items()]
    options += ["--detach", "--restart=unless-stopped", f"--name={PROJECT}-edge-1", f"--publish=127.0.0.1:{HTTPS_PORT}:9999"]
    docker("run", *options, image, "valkey-server", "--port", "9999", "--protected-mode", "no", "--save", "")


def cut_the_power() -> None:
    """End the containers and the engine as a machine that goes down does, and start the engine again."""
    ids = [entry["Id"] for project in (NEIGHBOUR, PROJECT) for entry in containers(project).values() if entry["State"]["Running"]]
    playbook("stop_engine")
    # live-restore keeps containers running without an engine.
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_text(encoding="utf-8", errors="replace").split("\0")
            if "containerd-shim" in words[0] and set(words) & set(ids):
                for victim in descendants(int(path.parent.name)):
                    with suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
    playbook("start_engine")


def bring_mmdebstrap() -> None:
    """A deploy does that has to build the base; where the engine has it from before, somebody else must."""
    if not shutil.which("mmdebstrap"):
        playbook("bring_mmdebstrap")


def build_hosts() -> None:
    """The bare hosts of molecule/, two minutes of work."""
    for suite in ("trixie", "bookworm"):
        if f"seawall-host/{suite}" not in docker("image", "ls", "--format", "{{.Repository}}").split():
            bring_mmdebstrap()
            subprocess.run(["molecule/hosts/build", suite, f"seawall-host/{suite}"], cwd=REPOSITORY, check=True, timeout=600)


def build_images_of_tests(over: threading.Event) -> None:
    """Once the deploy has built its own and mostly waits for what it has started."""
    while not containers(NEIGHBOUR):
        if over.wait(1):
            return
    with ThreadPoolExecutor(1) as beside:
        hosts = beside.submit(build_hosts)
        judges.image()
        browser.image()
        hosts.result()


def deploy() -> State:
    """Deploy the neighbour, let the engine bring it and an old container back after a power cut, and note how it is."""
    playbook("start_engine")
    remove()
    docker("rm", "--force", f"{PROJECT}-edge-1", check=False)
    over = threading.Event()
    # Whatever is built is there before the power is cut.
    with ThreadPoolExecutor(1) as beside:
        built = beside.submit(build_images_of_tests, over)
        run = seawall("deploy", settings=SETTINGS)
        over.set()
    if run.code != 0:
        pytest.exit(f"the neighbour's deploy failed:\n{run.output[-20000:]}", returncode=1)
    built.result()
    leave_an_old_container()
    before = running(NEIGHBOUR)
    if ENGINE_IS_OURS:
        cut_the_power()
        wait_until_it_answers()
        came_back = running(NEIGHBOUR)
        assert {name: came_back[name][0] for name in before} == {name: before[name][0] for name in before}
        assert all(came_back[name][1] != before[name][1] for name in before), "nothing was restarted, so this proves nothing"
        assert set(running(PROJECT)) == {"edge"}
    at_rest = settled()
    pause()
    return at_rest


def settled() -> State:
    """The state once no container starts anew any more: until the database answers, the service may end and come back."""
    deadline = time.monotonic() + 180
    found = state()
    while True:
        assert time.monotonic() < deadline, "the neighbour does not come to rest"
        time.sleep(5)
        again = state()
        if again == found and answers():
            return found
        found = again


def describe(before: State) -> str:
    """What differs from an earlier state, in JSON; empty when nothing does and it answers."""
    go_on()
    after = state()
    if after == before:
        wait_until_it_answers()
        return ""
    return json.dumps({"before": vars(before), "after": vars(after)}, indent=1)
