"""The installation under test: deploying it, asking it over TLS, and looking into its containers."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = Path(__file__).with_name("settings.yml")
PROJECT = "seawall-test"
ROOT = Path("/opt/seawall-test")
HTTPS_PORT = 18443
HTTP_PORT = 18080
URL = f"https://localhost:{HTTPS_PORT}"
# Of every container that tests start by themselves: whatever ends a run, tests/run removes them by it.
LABEL = "--label=seawall.test=stack"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; body is parsed when it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any


def connect(port: int = HTTPS_PORT) -> http.client.HTTPConnection:
    """A connection to the edge, opened by its first request; over TLS only the installation's own CA is trusted."""
    if port == HTTP_PORT:
        return http.client.HTTPConnection("localhost", port, timeout=30)
    context = ssl.create_default_context(cafile=str(ROOT / "tls/ca.pem"))
    return http.client.HTTPSConnection("localhost", port, timeout=30, context=context)


def answer_of(response: http.client.HTTPResponse) -> Answer:
    """Read an answer to its end. A header that comes twice may mean two things, so only cookies do."""
    raw = response.read()
    sent = [name.lower() for name, _ in response.getheaders()]
    assert {name for name in sent if sent.count(name) > 1} <= {"set-cookie"}, (response.status, response.getheaders())
    headers = {name.lower(): value for name, value in response.getheaders()}
    body: Any = raw.decode(errors="replace")
    if "json" in headers.get("content-type", "") and raw:
        body = json.loads(raw)
    return Answer(response.status, headers, body)


def ask(
    path: str, method: str = "GET", body: object = None, headers: dict[str, str] | None = None, port: int = HTTPS_PORT
) -> Answer:
    """Send one request to the edge and follow nothing."""
    sent = dict(headers or {})
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = connect(port)
    try:
        connection.request(method, path, body=data, headers=sent)
        return answer_of(connection.getresponse())
    finally:
        connection.close()


def ask_when_allowed(path: str, method: str, body: object, headers: dict[str, str] | None = None) -> Answer:
    """As a polite client: other tests may have used up what this address is allowed."""
    deadline = time.monotonic() + 120
    while True:
        answer = ask(path, method, body, headers)
        if answer.status != 429 or time.monotonic() > deadline:
            return answer
        time.sleep(int(answer.headers["retry-after"]))


@dataclass
class Run:
    """What one call of ./seawall did."""

    code: int
    output: str
    recap: dict[str, int] = field(default_factory=dict)


def images() -> set[str]:
    """Every image of ours that the engine has, whoever built it."""
    return set(docker("image", "ls", "--filter", "reference=seawall/*", "--format", "{{.Repository}}:{{.Tag}}").split())


def named_images() -> set[str]:
    """What the installed stack is made of, whether it runs or not."""
    path = ROOT / "compose/.env"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line.partition("=")[2] for line in lines if line.startswith("SEAWALL_IMAGE_")}


# Filled by deploys of changed checkouts: nobody else can want these, apart from what the unchanged repository makes, too.
of_changed_checkouts: set[str] = set()


def seawall(*arguments: str, checkout: Path = REPOSITORY, settings: Path | None = SETTINGS) -> Run:
    """Run ./seawall in a checkout against the test installation, without a terminal."""
    extra = ["-e", f"@{settings}"] if settings else []
    words = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    done = subprocess.run(
        ["./seawall", *words, *extra, *arguments[len(words) :]],
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1500,
        env=environment,
        check=False,
    )
    if checkout != REPOSITORY:
        of_changed_checkouts.update(named_images())
    output = done.stdout + done.stderr
    recap = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", output.rpartition("PLAY RECAP")[2])}
    return Run(done.returncode, output, recap)


def docker(*arguments: str, check: bool = True) -> str:
    """Run the docker client and return what it printed on stdout."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


def containers(project: str = PROJECT) -> dict[str, dict[str, Any]]:
    """Every lasting container of an installation: service name -> docker inspect."""
    label = f"label=com.docker.compose.project={project}"
    ids = docker("ps", "--all", "--quiet", "--filter", label, "--filter", "label=com.docker.compose.oneoff=False").split()
    found = json.loads(docker("inspect", *ids)) if ids else []
    return {entry["Config"]["Labels"]["com.docker.compose.service"]: entry for entry in found}


def running(project: str = PROJECT) -> dict[str, tuple[str, str]]:
    """Running containers: service -> (id, started at). Two equal answers mean that nothing was restarted between."""
    found = containers(project).items()
    return {name: (entry["Id"], entry["State"]["StartedAt"]) for name, entry in found if entry["State"]["Running"]}


def in_charge(name: str) -> str:
    """api and auth by the colour in charge, the others as they are."""
    colour = (ROOT / "upstream/current").readlink().name
    return f"{name}-{colour}" if name in {"api", "auth"} else name


def services() -> dict[str, dict[str, Any]]:
    """What Compose reads in the installed stack file, jobs included: a job leaves no container to ask."""
    stack = ["--file", str(ROOT / "compose/stack.yml"), "--profile", "*"]
    found: dict[str, dict[str, Any]] = json.loads(docker("compose", *stack, "config", "--format", "json"))["services"]
    return found


def query(sql: str, database: str = "app") -> str:
    """What the superuser reads in the installation's database."""
    return docker("exec", containers()["postgres"]["Id"], "psql", "-XAtq", f"--dbname={database}", f"--command={sql}")


def backup_sets() -> list[Path]:
    """Every published set."""
    return sorted(path for path in (ROOT / "backups").iterdir() if path.is_dir() and not path.name.startswith("."))


def all_secrets() -> dict[str, str]:
    """Every secret value of the installation, by file (and line, where a file holds several)."""
    values: dict[str, str] = {}
    for path in sorted((ROOT / "secrets").iterdir()):
        for number, word in enumerate(path.read_text(encoding="utf-8", errors="replace").split()):
            if len(word) >= 16 and not word.startswith("seawall_"):
                values[f"{path.name}:{number}"] = word
    for path in (ROOT / "tls/privkey.pem", ROOT / "tls-ca/ca.key"):
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        values |= {f"{path.name}:{number}": line for number, line in enumerate(lines) if len(line) > 40}
    return values


def shown(secrets: dict[str, str], text: str) -> list[str]:
    """The names of secrets that stand in a text, as they are or in base64, as Ansible reads files."""
    forms = {name: (value, base64.b64encode(value.encode())[: len(value) // 3 * 4].decode()) for name, value in secrets.items()}
    return [name for name, found in forms.items() if any(form in text for form in found)]


def copy_checkout(target: Path) -> Path:
    """A copy of the working tree that a test may change; it shares the Python environment."""
    shutil.copytree(
        REPOSITORY,
        target,
        ignore=shutil.ignore_patterns(".venv", ".git", ".seawall", "__pycache__", ".*_cache", ".cache", ".screenshots"),
        symlinks=True,
    )
    (target / ".venv").symlink_to(REPOSITORY / ".venv")
    return target
