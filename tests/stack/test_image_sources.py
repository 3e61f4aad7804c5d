"""What images are made of: packages that a lock names by hash, and what Debian has signed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import neighbour
import pytest
from image_builds import build_without_hashes
from installation import REPOSITORY, running, seawall

pytestmark = pytest.mark.usefixtures("stack")

KEYRINGS = Path("/usr/share/keyrings")


@pytest.mark.parametrize(("target", "lock"), [("prod", "requirements.txt"), ("test", "requirements-test.txt")])
def test_a_package_without_a_hash_is_not_installed(tmp_path: Path, target: str, lock: str) -> None:
    context = shutil.copytree(REPOSITORY / "app", tmp_path / "app")
    said = build_without_hashes(context, lock, target)
    assert "Hashes are required in --require-hashes mode" in said, said[-3000:]


def test_what_debian_has_not_signed_does_not_come_into_the_base() -> None:
    """Signed it is, but by none of the keys that are in force: here they are those that Debian has given up."""
    neighbour.bring_mmdebstrap()
    reference = "seawall-test-unsigned:1"
    keys, others = KEYRINGS / "debian-archive-keyring.gpg", KEYRINGS / "debian-archive-removed-keys.gpg"
    recipe = REPOSITORY / "compose/images/base/build"
    mounted = f"mount --bind {others} {keys} && exec {recipe} {reference}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", mounted], capture_output=True, text=True, timeout=300, check=False)
    built = subprocess.run(["docker", "image", "rm", reference], capture_output=True, check=False).returncode == 0
    assert (done.returncode == 0, built) == (False, False), done.stdout
    assert "NO_PUBKEY" in done.stderr, done.stderr[-3000:]


def test_who_has_no_base_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    before = running()
    run = seawall("deploy", "-e", "images_epoch=another")
    said = " ".join(run.output.rpartition("fatal:")[2].split())
    assert run.code != 0
    assert "The base image could not be made: mktemp: " in said
    assert "/nowhere" in said
    assert "See that apt-get update works on this host" in said
    assert running() == before
