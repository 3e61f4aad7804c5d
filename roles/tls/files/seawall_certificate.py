#!/usr/bin/env python3
"""Runs on a host with tls_mode acme, from the timer as from a deploy: seawall-certificate ROOT install | renew [--force] | check.

renew has the one-shot container ask the authority; both renew and install put in use what was issued, and have nginx load it
when it serves another one. check tells whether it does. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
LARGEST = 1 << 20
CONTAINER_SECONDS = 600
LOAD_SECONDS = 20


class CertificateError(Exception):
    """What went wrong, as a sentence for an operator."""


@dataclass(frozen=True)
class Installation:
    """Where things are; the role has written the rest beside this program."""

    root: Path
    project: str
    domain: str
    edge_uid: int

    @property
    def tls(self) -> Path:
        return self.root / "tls"

    def compose(self, *arguments: str, limit: int = 60) -> subprocess.CompletedProcess[str]:
        """Run Compose on the installed stack; ended from outside, it still removes its container."""
        command = ["timeout", "--kill-after=30", str(limit), "docker", "compose", "--project-name", self.project]
        return subprocess.run(
            [*command, "--file", "stack.yml", *arguments],
            cwd=self.root / "compose",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def wanted(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "acme/config/wanted.json").read_text(encoding="utf-8"))
        return found


@contextmanager
def alone(installation: Installation) -> Iterator[None]:
    """The timer and a deploy may come at the same time."""
    with (installation.root / "acme/lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ask_authority(installation: Installation, *, force: bool) -> None:
    arguments = ["run", "--rm", "--no-deps", "--no-TTY", "acme", "seawall-acme", *(["--force"] if force else [])]
    done = installation.compose(*arguments, limit=CONTAINER_SECONDS)
    if done.returncode == 124:
        raise CertificateError(f"The authority did not finish within {CONTAINER_SECONDS} seconds.")
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        own = [line.removeprefix("seawall-acme: ") for line in lines if line.startswith("seawall-acme: ")]
        raise CertificateError(
            " ".join(own or lines[-2:]) or f"The container that asks the authority ended with {done.returncode}."
        )


def read_issued(installation: Installation) -> dict[str, Any]:
    """What the container has handed over, whose directory is its own: a link there could lead to any file of root's."""
    path = installation.root / "acme/issued/certificate.json"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    with os.fdopen(descriptor, encoding="utf-8") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > LARGEST:
            raise CertificateError(f"{path} is not the file that the container writes: remove it and renew.")
        found = json.load(stream)
    if not isinstance(found, dict) or not {"names", "directory_url", "not_after", "fullchain", "private_key"} <= found.keys():
        raise CertificateError(f"{path} is not what the container writes: remove it and renew.")
    return found


def first_certificate(pem: str) -> bytes:
    """The server's own certificate of a chain, as it is sent."""
    before, _, _ = pem.partition(END)
    return ssl.PEM_cert_to_DER_cert(f"{BEGIN}{before.partition(BEGIN)[2]}{END}\n")


def fits(issued: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether what was issued is still what is asked for, and not of an earlier configuration."""
    return (
        sorted(issued["names"]) == sorted(wanted["names"])
        and issued["directory_url"] == wanted["directory_url"]
        and issued["not_after"] > f"{datetime.now(UTC):%Y%m%d%H%M%SZ}"
    )


def installed(installation: Installation) -> str:
    try:
        return (installation.tls / "fullchain.pem").read_text(encoding="ascii")
    except FileNotFoundError:
        return ""


def served(installation: Installation) -> bytes:
    """The certificate that nginx answers with; nothing when no nginx answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(5)
        try:
            plain.connect(str(installation.root / "edge-status/https.sock"))
            with context.wrap_socket(plain, server_hostname=installation.domain) as connection:
                return connection.getpeercert(binary_form=True) or b""
        except OSError:
            return b""


def write(path: Path, content: str, mode: int, owner: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fchown(stream.fileno(), owner, owner)
        os.fsync(stream.fileno())


def link(path: Path, target: str) -> None:
    """Point a link somewhere else in one rename."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)


def make_pair(installation: Installation, issued: Mapping[str, Any]) -> str:
    """A directory with certificate, key and where they are from; refused when OpenSSL does not take the two together."""
    name = f"pairs/{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    directory = installation.tls / name
    directory.mkdir()
    try:
        directory.chmod(0o755)
        origin = {key: value for key, value in issued.items() if key not in {"fullchain", "private_key"}}
        write(directory / "fullchain.pem", issued["fullchain"], 0o444, installation.edge_uid)
        write(directory / "privkey.pem", issued["private_key"], 0o400, installation.edge_uid)
        write(directory / "origin.json", json.dumps(origin, indent=1) + "\n", 0o444, 0)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(directory / "fullchain.pem", directory / "privkey.pem")
    except BaseException:
        shutil.rmtree(directory)
        raise
    return name


def put_in_use(installation: Installation, issued: Mapping[str, Any]) -> None:
    """Swap certificate and key by one rename, and take the swap back when nginx cannot do with them."""
    current = installation.tls / "current"
    before = str(current.readlink()) if current.is_symlink() else ""
    name = make_pair(installation, issued)
    link(current, name)
    for file in ("fullchain.pem", "privkey.pem"):
        if not (installation.tls / file).is_symlink():
            link(installation.tls / file, f"current/{file}")
    try:
        load(installation)
    except (CertificateError, OSError):
        if before:
            link(current, before)
            shutil.rmtree(installation.tls / name)
        raise
    # An authority of the host's own has no part in it any more.
    (installation.tls / "ca.pem").unlink(missing_ok=True)
    for pair in (installation.tls / "pairs").iterdir():
        if pair.name != Path(name).name:
            # One that a deploy has made belongs to the edge's user, and the timer's unit may not write there.
            os.chown(pair, os.geteuid(), os.getegid())
            shutil.rmtree(pair)


def load(installation: Installation) -> bool:
    """Have nginx load what is installed unless it serves just that; an edge that does not run will when it starts."""
    wanted = first_certificate(installed(installation))
    now = served(installation)
    if now in (b"", wanted):
        return False
    test = installation.compose("exec", "--no-TTY", "edge", "nginx", "-t", "-q")
    if test.returncode != 0:
        raise CertificateError(f"nginx refused it and goes on with the one before: {test.stderr.strip()}")
    reload = installation.compose("exec", "--no-TTY", "edge", "nginx", "-s", "reload")
    deadline = time.monotonic() + LOAD_SECONDS
    while served(installation) != wanted:
        if reload.returncode != 0 or time.monotonic() > deadline:
            raise CertificateError(f"nginx did not load it and goes on with the one before: {reload.stderr.strip()}")
        time.sleep(0.2)
    return True


def bring_into_use(installation: Installation) -> bool:
    """Install and load what was issued where that is another one; whether anything changed."""
    issued = read_issued(installation)
    # A pair from elsewhere may be the same, but nothing then tells a deploy where it is from.
    in_use = issued and issued["fullchain"] == installed(installation) and (installation.tls / "current/origin.json").exists()
    if issued and not in_use and fits(issued, installation.wanted()):
        put_in_use(installation, issued)
        return True
    return load(installation)


def run(installation: Installation, verb: str, *, force: bool) -> dict[str, object]:
    if verb == "check":
        return {"changed": served(installation) not in (b"", first_certificate(installed(installation)))}
    with alone(installation):
        refusal = ""
        if verb == "renew":
            try:
                ask_authority(installation, force=force)
            except CertificateError as error:
                refusal = str(error)
        changed = bring_into_use(installation)
        issued = read_issued(installation)
    if refusal:
        raise CertificateError(refusal)
    if verb == "renew" and issued and not fits(issued, installation.wanted()):
        raise CertificateError(
            f"The authority's certificate is for {', '.join(issued['names'])} until {issued['not_after']}, which is not what was "
            f"asked for, or over: it is {datetime.now(UTC):%Y%m%d%H%M%SZ} here. Look at the host's clock and at the authority."
        )
    return {"changed": changed}


def main(arguments: list[str]) -> int:
    if arguments[1:] not in (["check"], ["install"], ["renew"], ["renew", "--force"]):
        print("usage: seawall-certificate ROOT check | install | renew [--force]", file=sys.stderr)
        return 64
    root = Path(arguments[0])
    try:
        installation = Installation(root=root, **json.loads((root / "acme/config/installation.json").read_text(encoding="utf-8")))
        result = run(installation, arguments[1], force="--force" in arguments)
    except (KeyError, TypeError) as error:
        print(f"seawall-certificate: {root}/acme is not as ./seawall deploy leaves it ({error}): run that first", file=sys.stderr)
        return 1
    except (CertificateError, OSError, ValueError) as error:
        print(f"seawall-certificate: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
