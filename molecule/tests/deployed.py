"""One host of a scenario: asked over TLS as a client, looked into as root, and deployed to again as an operator does."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from testinfra.host import Host as Shell

REPOSITORY = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
INVENTORY = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory"
ROOT = "/opt/seawall"
DOMAIN = "api.example.test"


@dataclass(frozen=True)
class Run:
    """What one call of ansible-playbook did."""

    code: int
    output: str
    recap: dict[str, int]


@dataclass
class Host:
    """The scenario's host."""

    shell: Shell
    tokens: dict[str, str] = field(default_factory=dict)

    def root(self, command: str) -> str:
        """What a command prints that is run as root on the host."""
        with self.shell.sudo():
            return self.shell.run(command).stdout.strip()

    def must(self, command: str) -> str:
        with self.shell.sudo():
            return self.shell.check_output(command).strip()

    @cached_property
    def address(self) -> str:
        """Where the host is on the machine's own network, as any other host there sees it."""
        return self.shell.check_output("ip -4 -oneline address show dev eth0").split()[3].partition("/")[0]

    @cached_property
    def authority(self) -> str:
        return self.must(f"cat {ROOT}/tls/ca.pem")

    def ask(self, path: str, method: str = "GET", body: object = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and body of one answer over TLS, trusting only the installation's own authority."""
        context = ssl.create_default_context(cadata=self.authority)
        connection = http.client.HTTPSConnection(DOMAIN, 443, timeout=20, context=context)
        connection.sock = context.wrap_socket(socket.create_connection((self.address, 443), timeout=20), server_hostname=DOMAIN)
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text

    def session(self) -> dict[str, str]:
        """Headers of the first user, with the password that the deploy has left for the person who deployed."""
        left = REPOSITORY / f".seawall/first-sign-in-{self.shell.backend.hostname}"
        words = dict(line.split(maxsplit=1) for line in left.read_text(encoding="utf-8").splitlines())
        status, tokens = self.ask("/api/auth/login", "POST", {"username": words["user:"], "password": words["password:"]})
        assert status == 200, tokens
        return {"Authorization": f"Bearer {tokens['access_token']}"}

    def containers(self) -> dict[str, tuple[str, str]]:
        """Running containers: service -> (id, started at). Two equal answers mean that nothing was restarted between."""
        ids = self.root("docker ps --quiet").split()
        found = json.loads(self.must(f"docker inspect {' '.join(ids)}")) if ids else []
        return {c["Config"]["Labels"]["com.docker.compose.service"]: (c["Id"], c["State"]["StartedAt"]) for c in found}

    def secrets(self) -> dict[str, str]:
        """Every secret value of the installation, by file."""
        listing = self.must(f"grep --recursive --with-filename . {ROOT}/secrets")
        words = re.findall(r"^[^:]+/([a-z_]+):(.*)$", listing, re.MULTILINE)
        return {f"{name}:{word[:3]}": word for name, line in words for word in line.split() if len(word) >= 16 and word[:8] != "seawall_"}

    def playbook(self, name: str, *options: str) -> Run:
        """Run one of the operator's playbooks against this host."""
        done = subprocess.run(
            ["ansible-playbook", f"playbooks/{name}.yml", "--inventory", str(INVENTORY), *options],
            cwd=REPOSITORY,
            env=os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        output = done.stdout + done.stderr
        recap = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", output.rpartition("PLAY RECAP")[2])}
        return Run(done.returncode, output, recap)
