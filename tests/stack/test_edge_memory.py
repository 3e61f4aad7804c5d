"""Strangers that begin requests and never end them: no limit counts them, so the edge's memory must hold all that it lets in."""

from __future__ import annotations

import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from edge_wire import Way, connected
from installation import REPOSITORY, ask, containers

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.requirement("BEY-15")]

KIBIBYTES = yaml.safe_load((REPOSITORY / "roles/edge/vars/main.yml").read_text(encoding="utf-8"))["edge_connection_kibibytes"]
LIMITS = yaml.safe_load((REPOSITORY / "roles/edge/defaults/main.yml").read_text(encoding="utf-8"))["edge_limits"]
CONNECTIONS = LIMITS["worker_connections"]
# The first ones are sent away after the ten seconds of edge_timeouts.client_header_seconds.
SECONDS = 8
# All that the headers of a request may be together: four buffers of 8 KiB and a start.
LINES = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 7900) for number in range(4))
HEADERS = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + LINES.removesuffix(b"\r\n")
# The start of a record of TLS, which OpenSSL keeps until it is whole.
RECORD = b"\x17\x03\x03\x40\x00" + b"x" * 16000


def workers() -> dict[int, int]:
    """Process -> KiB that are its own alone."""
    master = containers()["edge"]["State"]["Pid"]
    found = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii").split()
    sizes = {}
    for worker in map(int, found):
        # One that is on its way out may be gone by now.
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{worker}/smaps_rollup").read_text(encoding="ascii").splitlines()
            sizes[worker] = next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))
    return sizes


@contextmanager
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * CONNECTIONS), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def begun(held: ExitStack) -> None:
    """One more request that goes no further."""
    connection = held.enter_context(connected(Way.SOCKET, ["http/1.1"]))
    assert isinstance(connection, ssl.SSLSocket)
    connection.sendall(HEADERS)
    # Below TLS: as much of a record as leaves it unfinished.
    plain = socket.socket(fileno=connection.fileno())
    try:
        plain.sendall(RECORD)
    finally:
        plain.detach()


def test_requests_without_an_end_fit_into_the_memory() -> None:
    before = workers()
    opened, end = 0, time.monotonic() + SECONDS
    with many_files(), ExitStack() as held:
        # Until nginx takes no more, at the latest.
        with suppress(ConnectionError, ssl.SSLError):
            while opened < CONNECTIONS and time.monotonic() < end:
                begun(held)
                opened += 1
        during = workers()
    assert opened >= 200
    assert during.keys() == before.keys(), "a worker was ended"
    assert (sum(during.values()) - sum(before.values())) / opened <= KIBIBYTES
    assert ask("/healthz").status == 200
