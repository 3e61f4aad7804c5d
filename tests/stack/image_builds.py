"""Images built beside the installation, on its own base."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml
from content_hash import image_references
from installation import REPOSITORY

EPOCH = "1"
RECIPE = str(REPOSITORY / "compose/images/base/build")
# What the installation's own builds are given.
SECRETS = yaml.safe_load((REPOSITORY / "roles/images/defaults/main.yml").read_text(encoding="utf-8"))["images_build_secrets"]
HASH = re.compile(r" *\\\n *--hash=\S+")


def build_without_hashes(context: Path, lock: str, target: str = "") -> str:
    """What is said by a build that fails because nothing in the lock file has a hash any more."""
    file = context / lock
    stripped = HASH.sub("", file.read_text(encoding="utf-8"))
    assert "--hash" not in stripped != file.read_text(encoding="utf-8")
    file.write_text(stripped, encoding="utf-8")
    base = image_references({}, RECIPE, EPOCH)["base"]
    build = ["docker", "buildx", "build", "--builder=default", "--progress=plain", f"--build-arg=BASE={base}"]
    build += [f"--secret=id={name},src={path}" for name, path in SECRETS.items() if path]
    build += [f"--target={target}"] if target else []
    done = subprocess.run([*build, str(context)], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode != 0
    return done.stderr
