"""The image that judges the edge from outside, built on the installation's own base and run beside it."""

from __future__ import annotations

import base64
import subprocess
from typing import Any

from content_hash import image_context, image_references
from image_builds import EPOCH, RECIPE
from installation import LABEL, REPOSITORY
from seawall_image_build import build_command

DEFINITION: dict[str, Any] = {"context": str(REPOSITORY / "tests/judges"), "target": "", "exclude": []}


def image() -> str:
    """The image's name; it is built when the engine does not have it. The base is there since the deploy."""
    references = image_references({"judges": DEFINITION}, RECIPE, EPOCH)
    name = references["judges"]
    if subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode:
        command = build_command("docker", {"reference": name, "target": ""}, {"BASE": references["base"]}, {})
        context = base64.b64decode(image_context("judges", DEFINITION, references, EPOCH))
        done = subprocess.run(command, input=context, capture_output=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
    return name


def judge(*command: str, mounts: tuple[str, ...] = (), network: str = "host", seconds: int = 60) -> str:
    """Run a program of the image as nobody, with nothing that it could write but /tmp; what it said on stdout."""
    options = ["--rm", LABEL, "--pull=never", f"--network={network}", "--read-only", "--cap-drop=ALL"]
    options += ["--security-opt=no-new-privileges=true", "--tmpfs=/tmp", *(f"--volume={mount}:ro" for mount in mounts)]
    # Ended inside: the engine would let it go on without its client.
    run = ["docker", "run", *options, image(), "timeout", str(seconds), *command]
    return subprocess.run(run, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * seconds, check=False).stdout
