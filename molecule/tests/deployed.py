"""One host of a scenario: asked over TLS as a client, looked into as root, and deployed to again as an operator does.

A pytest plugin: it gives the tests of every scenario the fixture `deployed`.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host as Shell

REPOSITORY = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
INVENTORY = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory"
SETTINGS: dict[str, Any] = yaml.safe_load((INVENTORY / "group_vars/seawall.yml").read_text(encoding="utf-8"))
ROOT = str(SETTINGS.get("seawall_root", "/opt/seawall"))
PROJECT = str(SETTINGS.get("seawall_project", "seawall"))
DOMAIN = str(SETTINGS.get("seawall_domain", ""))
CONVERGE = f"{os.environ['MOLECULE_SCENARIO_DIRECTORY']}/converge.yml"
AUTHORITY = Path("/run/seawall-molecule", os.environ["MOLECULE_SCENARIO_NAME"], "authority/root.pem")
COMMAND = ["ansible-playbook", "--inventory", str(INVENTORY)]
ENVIRONMENT = os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
# Measured: docs/security.md. Most directives that could be dropped cost 0.1 or more.
WORST_EXPOSURE = 1.2
PORT = int(SETTINGS.get("edge_listen", {}).get("https_port", 443))


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
            return str(self.shell.run(command).stdout).strip()

    def must(self, command: str) -> str:
        with self.shell.sudo():
            return str(self.shell.check_output(command)).strip()

    @property
    def name(self) -> str:
        return str(self.shell.backend.get_hostname())

    @property
    def instance(self) -> str:
        """The container that the host is."""
        labels = {"project": f"seawall-molecule-{os.environ['MOLECULE_SCENARIO_NAME']}", "service": self.name}
        filters = [word for key, value in labels.items() for word in ("--filter", f"label=com.docker.compose.{key}={value}")]
        (found,) = subprocess.run(
            ["docker", "ps", "--quiet", *filters], capture_output=True, text=True, check=True
        ).stdout.split()
        return found

    def console(self, command: str) -> str:
        """What a command prints on the host's own console, which needs no network; it must succeed."""
        done = subprocess.run(
            ["docker", "exec", self.instance, "sh", "-c", command], capture_output=True, text=True, check=True, timeout=300
        )
        return done.stdout.strip()

    @cached_property
    def address(self) -> str:
        """Where the host is on the machine's own network, as any other host there sees it."""
        return self.console("ip -4 -oneline address show dev eth0").split()[3].partition("/")[0]

    @cached_property
    def authority(self) -> str:
        """Whose certificates a client of this host trusts: the host's own authority, or the one that runs beside it."""
        if SETTINGS.get("tls_mode") == "acme":
            return AUTHORITY.read_text(encoding="ascii")
        return self.must(f"cat {ROOT}/tls/ca.pem")

    def ask(self, path: str, method: str = "GET", body: object = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and body of one answer over TLS, trusting only the installation's own authority."""
        context = ssl.create_default_context(cadata=self.authority)
        connection = http.client.HTTPSConnection(DOMAIN, PORT, timeout=20, context=context)
        connection.sock = context.wrap_socket(socket.create_connection((self.address, PORT), timeout=20), server_hostname=DOMAIN)
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text

    def first_user(self) -> tuple[str, str]:
        """Name and password, as the deploy has left them for the person who deployed."""
        left = Path(SETTINGS["auth_first_user"]["show_in"]).read_text(encoding="utf-8")
        words = dict(line.split(maxsplit=1) for line in left.splitlines())
        return words["user:"], words["password:"]

    def session(self) -> dict[str, str]:
        """Headers of the first user."""
        name, password = self.first_user()
        status, tokens = self.ask("/api/auth/login", "POST", {"username": name, "password": password})
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
        return {
            f"{name}:{word[:3]}": word
            for name, line in words
            for word in line.split()
            if len(word) >= 16 and word[:8] != "seawall_"
        }

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit of this installation."""
        shown = self.must(f"systemctl show {PROJECT}-{name} --property={','.join(properties)}")
        return dict(line.split("=", 1) for line in shown.splitlines())

    def exposure(self, name: str) -> float:
        """What systemd-analyze security gives a unit of this installation: 0 is shut in, 10 is open."""
        verdict = self.must(f"systemd-analyze security --no-pager {PROJECT}-{name}").splitlines()[-1]
        print(verdict)
        found = re.search(r"exposure level for \S+: (\d+\.\d)", verdict)
        assert found, verdict
        return float(found[1])

    def status_screen(self) -> str:
        """Ansible breaks long lines, so every gap is one space."""
        return " ".join(self.playbook("status").output.split())

    def playbook(self, name: str, *options: str) -> Run:
        """Run one of the operator's playbooks against this host."""
        return self.run(f"playbooks/{name}.yml", *options)

    def converge(self, *options: str) -> Run:
        """Run the playbook of the scenario of a single role against this host."""
        return self.run(CONVERGE, *options)

    def run(self, playbook: str, *options: str) -> Run:
        done = subprocess.run(
            [*COMMAND, "--limit", self.name, playbook, *options],
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        output = done.stdout + done.stderr
        recap = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", output.rpartition("PLAY RECAP")[2])}
        return Run(done.returncode, output, recap)


@pytest.fixture(scope="module")
def deployed(host: Shell) -> Host:
    """The scenario's host with Seawall on it."""
    return Host(host)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of the host's journal and of the containers' logs."""
    report = yield
    deployed = getattr(item, "funcargs", {}).get("deployed")
    if report.failed and isinstance(deployed, Host):
        # A host that cannot be reached has nothing to show.
        with suppress(RuntimeError):
            report.sections.append(("journal", deployed.root("journalctl --no-pager --lines 30")))
            logs = f"docker compose --file {ROOT}/compose/stack.yml logs --no-color --tail 10"
            report.sections.append(("containers", deployed.root(f"docker ps --all; {logs}")))
    return report
