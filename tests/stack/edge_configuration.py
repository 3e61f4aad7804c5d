"""The configuration that the running edge was started with, as nginx itself tells it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

from installation import PROJECT, containers, docker


def dump(project: str = PROJECT) -> str:
    """What `nginx -T` says inside the running container."""
    return docker("exec", containers(project)["edge"]["Id"], "nginx", "-T")


def found_by_gixy(configuration: str) -> list[Any]:
    """It is not told which nginx this is: it knows upstream's numbers, and Debian mends what is found without changing them."""
    gixy = [sys.executable, "-m", "gixy", "--format=json", "-"]
    done = subprocess.run(gixy, input=configuration, capture_output=True, text=True, check=False)
    found: list[Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == (found == []), done.stderr
    return found


def files(project: str) -> dict[str, str]:
    """Path below /etc/nginx -> content."""
    parts = re.split(r"^# configuration file /etc/nginx/([^:\n]+):\n", dump(project), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def whole(name: str, found: dict[str, str]) -> str:
    """A file with everything that it includes in the place of the includes."""
    return re.sub(r"^( *)include ([\w./]+);", lambda match: whole(match[2], found), found[name], flags=re.MULTILINE)


def locations(project: str = PROJECT) -> set[tuple[str, str]]:
    """Every location as (server, what it matches); a server's name is that of its file."""
    found = files(project)
    return {
        (name.removeprefix("servers/").removesuffix(".conf"), match)
        for name in found
        if name.startswith("servers/")
        for match in re.findall(r"^ *location ([^{]+?) *\{", whole(name, found), re.MULTILINE)
    }
