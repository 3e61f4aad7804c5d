"""The Postgres image starts on a whole cluster or not at all."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from installation import LABEL, PROJECT, ROOT, containers, docker

pytestmark = pytest.mark.usefixtures("stack")

REFUSES = "78"
OPTIONS = [LABEL, "--network=none", "--read-only", "--cap-drop=ALL", "--tmpfs=/run/postgresql:mode=0700,uid=10103,gid=10103"]


class Cluster:
    """Containers of the stack's Postgres image on a volume of their own."""

    name = volume = f"{PROJECT}-start"
    second = f"{name}-second"

    def __init__(self) -> None:
        self.image: str = containers()["postgres"]["Config"]["Image"]
        self.mounts = [f"--volume={self.volume}:/var/lib/postgresql", f"--volume={ROOT}/postgres:/etc/seawall/postgres:ro"]

    def start(self, name: str = name) -> str:
        return docker("run", "--detach", "--name", name, *OPTIONS, *self.mounts, self.image)

    def remove(self, name: str = name) -> None:
        docker("rm", "--force", name, check=False)

    def shell(self, command: str) -> str:
        return docker("run", "--rm", LABEL, "--network=none", *self.mounts, "--entrypoint", "sh", self.image, "-c", command)

    def answers(self, seconds: float = 120) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if docker("exec", self.name, "psql", "-XAtq", "--dbname=postgres", "--command=SELECT 1", check=False) == "1":
                return True
            time.sleep(0.3)
        return False


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    try:
        yield made
    finally:
        made.remove()
        # What was to be refused and was not would keep the volume.
        made.remove(made.second)
        docker("volume", "rm", "--force", made.volume)


def refusal(cluster: Cluster, name: str = Cluster.name) -> str:
    """The container's last words, once it has ended with the code for a refusal."""
    container = cluster.start(name)
    end = time.monotonic() + 60
    while (state := docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container)) != f"exited {REFUSES}":
        assert time.monotonic() < end, f"it was not refused: {state}"
        time.sleep(0.3)
    done = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
    cluster.remove(name)
    return done.stderr


def test_a_killed_initialisation_starts_again_from_nothing(cluster: Cluster) -> None:
    cluster.start()
    left = ""
    for _ in range(100):
        left = docker("exec", cluster.name, "ls", "-A", "/var/lib/postgresql/17", check=False)
        if left:
            break
    docker("kill", cluster.name)
    cluster.remove()
    assert left == ".building", "the kill came too late to prove anything"
    assert "main" not in cluster.shell("ls -A /var/lib/postgresql/17").split()
    cluster.start()
    assert cluster.answers()
    assert cluster.shell("ls -A /var/lib/postgresql/17") == "main"


def test_a_second_server_on_the_same_volume_is_refused(cluster: Cluster) -> None:
    cluster.start()
    assert cluster.answers()
    assert "another container is running on this volume" in refusal(cluster, cluster.second)
    assert cluster.answers()


def test_a_directory_that_was_never_completed_is_refused(cluster: Cluster) -> None:
    cluster.start()
    assert cluster.answers()
    docker("stop", cluster.name)
    cluster.remove()
    cluster.shell("rm /var/lib/postgresql/17/main/seawall-complete")
    assert "is not a cluster that this image completed" in refusal(cluster)


def test_data_of_another_major_version_is_refused(cluster: Cluster) -> None:
    cluster.shell("mkdir -p /var/lib/postgresql/16/main")
    assert "made by another major version" in refusal(cluster)
