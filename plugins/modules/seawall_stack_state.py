"""Compare the containers that exist with the stack that is wanted, in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_stack_state
short_description: Tell for each service of a Compose stack whether its container runs and is the wanted one
description:
  - Changes nothing. A service is C(current) when its container was made from exactly the configuration that
    C(docker compose config --hash) computes now, so that a role brings up only what differs.
  - On a host without Docker, or before the first deploy, every service is reported as absent.
  - C(active_colour) is what the release link points at, or an empty string before the first release, and C(active_since) is when
    it was put there.
  - C(recorded_release) is the last line of the journal of releases, or what an empty one would say.
  - C(active_ready) tells whether what is in charge says that it is ready, its schema included.
  - C(edge_config_hash) is what the running nginx says that it was loaded with, or an empty string where none answers.
options:
  project: {description: Name of the Compose project., type: str, required: true}
  stack: {description: Text of the stack file., type: str, required: true}
  overlays: {description: Texts of files that are merged into it, in their order., type: list, elements: str, default: []}
  environment: {description: Text of the .env file., type: str, required: true}
  services: {description: Names of all services in the stack file., type: list, elements: str, required: true}
  release_link: {description: The symlink whose target names the active colour., type: path, required: true}
  release_journal: {description: The file with a line of JSON for each release., type: path, required: true}
  release_socket: {description: The Unix socket on which the colour in charge serves GET /readyz., type: path, required: true}
  edge_socket: {description: The Unix socket on which the edge serves GET /config., type: path, required: true}
"""

import http.client
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ANSWER_SECONDS = 3

ABSENT: dict[str, Any] = {
    "exists": False,
    "running": False,
    "healthy": False,
    "current": False,
    "image": "",
}


def describe(container: Mapping[str, Any], wanted_hash: str | None) -> dict[str, Any]:
    """One entry of `docker inspect` as the facts that roles decide on."""
    state = container["State"]
    health = state.get("Health") or {}
    running = bool(state["Running"]) and not state.get("Restarting", False)
    return {
        "exists": True,
        "running": running,
        "healthy": running and health.get("Status", "healthy") == "healthy",
        "current": container["Config"]["Labels"].get("com.docker.compose.config-hash") == wanted_hash,
        "image": container["Config"]["Image"],
    }


def last_release(journal: str) -> dict[str, str]:
    """Colour and image in the last line of the journal; both empty where there is none, or none that can be read."""
    try:
        with open(journal, encoding="utf-8") as stream:
            line: dict[str, Any] = json.loads(stream.read().splitlines()[-1])
        return {"colour": str(line["colour"]), "image": str(line["image"])}
    except (FileNotFoundError, IndexError, KeyError, TypeError, ValueError):
        return {"colour": "", "image": ""}


class OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket, whose path stands for the host."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(self.host)


def ask(path: str, target: str) -> tuple[int, bytes]:
    """Status and body of GET target on a Unix socket; 0 where nobody answers."""
    client = OverSocket("localhost")
    client.host = path
    try:
        client.request("GET", target, headers={"Host": "localhost", "Connection": "close"})
        answer = client.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        client.close()


def is_ready(path: str) -> bool:
    """Whether GET /readyz is answered with 200."""
    return ask(path, "/readyz")[0] == 200


def loaded_configuration(path: str) -> str:
    """The hash of what the nginx behind a socket was loaded with; empty where it does not say so."""
    status, body = ask(path, "/config")
    try:
        return str(json.loads(body)["hash"]) if status == 200 else ""
    except (ValueError, KeyError, TypeError):
        return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "stack": {"type": "str", "required": True},
            "overlays": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "str", "required": True},
            "services": {"type": "list", "elements": "str", "required": True},
            "release_link": {"type": "path", "required": True},
            "release_journal": {"type": "path", "required": True},
            "release_socket": {"type": "path", "required": True},
            "edge_socket": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    docker = shutil.which("docker")
    hashes: dict[str, str] = {}
    containers: list[dict[str, Any]] = []
    project: str = module.params["project"]
    services = {name: dict(ABSENT) for name in module.params["services"]}
    link: str = module.params["release_link"]
    release: dict[str, Any] = {
        "active_colour": "",
        "active_since": "",
        "recorded_release": last_release(module.params["release_journal"]),
        "active_ready": is_ready(module.params["release_socket"]),
        "edge_config_hash": loaded_configuration(module.params["edge_socket"]),
    }
    if os.path.islink(link):
        renamed_at = datetime.fromtimestamp(os.lstat(link).st_mtime, timezone.utc)
        release |= {"active_colour": os.path.basename(os.readlink(link)), "active_since": f"{renamed_at:%Y-%m-%dT%H:%M:%SZ}"}
    if docker:
        staging = tempfile.mkdtemp(prefix="seawall-stack-")
        try:
            texts = {f"overlay-{number}": text for number, text in enumerate(module.params["overlays"])}
            for name, text in ({name: module.params[name] for name in ("stack", "environment")} | texts).items():
                with open(os.path.join(staging, name), "w", encoding="utf-8") as stream:
                    stream.write(text)
            compose = [docker, "compose", "--project-name", project, "--file", f"{staging}/stack"]
            for name in texts:
                compose += ["--file", f"{staging}/{name}"]
            hashing = ["--env-file", f"{staging}/environment", "--profile", "*", "config", "--hash", "*"]
            code, output, errors = module.run_command([*compose, *hashing])
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        if code != 0:
            if module.check_mode:
                # A first --check on a host whose engine would be installed or upgraded by the real run.
                module.exit_json(changed=False, services=services, **release)
            module.fail_json(msg=f"docker compose does not accept compose/stack.yml with these variables: {errors.strip()}")
        hashes = dict(line.split() for line in output.splitlines() if line.strip())
        lasting = ["label=com.docker.compose.oneoff=False", f"label=com.docker.compose.project={project}"]
        listing = [docker, "ps", "--all", "--quiet", "--no-trunc", "--filter", lasting[0], "--filter", lasting[1]]
        code, output, errors = module.run_command(listing)
        if code == 0 and output.split():
            code, output, errors = module.run_command([docker, "inspect", "--type", "container", *output.split()])
            containers = json.loads(output) if code == 0 else []
        if code != 0 and not module.check_mode:
            module.fail_json(msg=f"The Docker Engine does not answer: {errors.strip()}")

    for container in containers:
        name = container["Config"]["Labels"]["com.docker.compose.service"]
        services[name] = describe(container, hashes.get(name))
    module.exit_json(changed=False, services=services, **release)


if __name__ == "__main__":
    main()
