"""The Postgres image starts on a whole cluster or not at all."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from database_access import project_under_test
from installation import containers, docker

REFUSES = "78"
OPTIONS = ["--network=none", "--read-only", "--cap-drop=ALL", "--tmpfs=/run/postgresql:mode=0700,uid=10103,gid=10103"]


class Cluster:
    """Containers of the stack's Postgres image on a volume of their own."""

    def __init__(self, project: str) -> None:
        server = containers(project)["postgres"]
        configuration = next(m["Source"] for m in server["Mounts"] if m["Destination"] == "/etc/seawall/postgres")
        self.image = server["Config"]["Image"]
        self.volume = f"{project}-start"
        self.mounts = [f"--volume={self.volume}:/var/lib/postgresql", f"--volume={configuration}:/etc/seawall/postgres:ro"]
        self.name = f"{project}-start"

    def start(self, name: str = "") -> str:
        return docker("run", "--detach", "--name", name or self.name, *OPTIONS, *self.mounts, self.image)

    def remove(self, name: str = "") -> None:
        docker("rm", "--force", name or self.name, check=False)

    def shell(self, command: str) -> str:
        return docker("run", "--rm", "--network=none", *self.mounts, "--entrypoint", "sh", self.image, "-c", command)

    def answers(self, seconds: float = 30) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if docker("exec", self.name, "psql", "-XAtq", "--dbname=postgres", "--command=SELECT 1", check=False) == "1":
                return True
            time.sleep(0.3)
        return False


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    made = Cluster(project_under_test(request))
    yield made
    made.remove()
    docker("volume", "rm", "--force", made.volume, check=False)


def refusal(cluster: Cluster, name: str = "") -> str:
    """The container's last words, once it has ended with the code for a refusal."""
    container = cluster.start(name)
    assert docker("wait", container) == REFUSES
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
    assert "another container is running on this volume" in refusal(cluster, f"{cluster.name}-second")
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
