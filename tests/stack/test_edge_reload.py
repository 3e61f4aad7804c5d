"""A reload under load: no fresh connection is lost, and what becomes of those that are used again is counted."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from conftest import Stack
from edge_wire import Request, Way, ask_1, tls_context
from installation import HTTPS_PORT, ROOT, containers, docker, seawall

pytestmark = pytest.mark.usefixtures("stack")

RELOADS = 5
PAUSE_SECONDS = 1.0
# Of each kind of client, however slow the machine is.
ENOUGH = 200
# A page needs no service and no limit counts it; the other way leads through everything.
PAGE = "/index.html"
API = "/api/v1/users/me"


@dataclass
class Seen:
    """What one kind of client was answered."""

    outcomes: Counter[object] = field(default_factory=Counter)
    # Requests that were not the first on their connection.
    reused: int = 0
    hung_up: int = 0


def fresh(way: Way, request: Request, seen: Seen) -> None:
    try:
        seen.outcomes[ask_1(request, way).status] += 1
    except OSError as error:
        seen.outcomes[repr(error)] += 1


def kept(connection: http.client.HTTPConnection, seen: Seen) -> None:
    """A request on a connection that lasts; when the edge has closed it, the same once more on a new one."""
    reused = connection.sock is not None
    seen.reused += reused
    for attempt in (1, 2):
        try:
            connection.request("GET", PAGE)
            response = connection.getresponse()
            response.read()
        except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError) as error:
            connection.close()
            if not reused or attempt == 2:
                seen.outcomes[repr(error)] += 1
                return
            seen.hung_up += 1
        else:
            seen.outcomes[response.status] += 1
            return


@contextmanager
def asking(*asks: Callable[[], None]) -> Iterator[None]:
    """Each asks again and again until the end."""
    ending = threading.Event()

    def repeat(ask: Callable[[], None]) -> None:
        while not ending.is_set():
            ask()

    threads = [threading.Thread(target=repeat, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join(60)


def workers() -> set[str]:
    """Which processes serve: those that are on their way out are not among them."""
    listing = docker("top", containers()["edge"]["Id"], "-eo", "pid,args").splitlines()
    return {line.split()[0] for line in listing if line.endswith("nginx: worker process")}


def reload() -> None:
    before = workers()
    docker("exec", containers()["edge"]["Id"], "nginx", "-s", "reload")
    end = time.monotonic() + 30
    while not workers() - before:
        assert time.monotonic() < end, "no new worker came"
        time.sleep(0.1)


def test_a_reload_drops_no_fresh_connection(stack: Stack, record_property: Callable[[str, object], None]) -> None:
    page, api, reusing = Seen(), Seen(), Seen()
    signed = Request(API, headers=tuple(stack.session().items()))
    lasting = [http.client.HTTPSConnection("localhost", HTTPS_PORT, timeout=30, context=tls_context()) for _ in range(2)]
    clients = [
        lambda: fresh(Way.TLS, Request(PAGE), page),
        lambda: fresh(Way.TLS, Request(PAGE), page),
        lambda: fresh(Way.SOCKET, signed, api),
        *(lambda c=connection: kept(c, reusing) for connection in lasting),
    ]
    with asking(*clients):
        reloads = 0
        while reloads < RELOADS or min(page.outcomes[200], api.outcomes[200], reusing.reused) < ENOUGH:
            time.sleep(PAUSE_SECONDS)
            reload()
            reloads += 1
        time.sleep(PAUSE_SECONDS)
    for name, value in (("fresh", page.outcomes + api.outcomes), ("reused", reusing.reused), ("hung up", reusing.hung_up)):
        record_property(name, value)
    assert set(page.outcomes) == set(api.outcomes) == {200}
    # They may be closed in the moment in which the next request is on its way; asked once more, that one is answered.
    assert set(reusing.outcomes) == {200}


def test_what_somebody_else_has_nginx_load_is_gone_after_the_next_deploy() -> None:
    """Such as an edit on the host: what nginx says of its configuration is then still what the deploy before has written."""

    def told() -> list[str]:
        return ask_1(Request(PAGE)).all("x-somebody")

    file = ROOT / "nginx/locations/headers.conf"
    with file.open("a", encoding="utf-8") as configuration:
        configuration.write("\nadd_header X-Somebody else always;\n")
    reload()
    end = time.monotonic() + 30
    while not told():
        assert time.monotonic() < end, "nginx has not loaded the edit, so this proves nothing"
        time.sleep(0.1)
    run = seawall("deploy")
    assert run.code == 0, run.output[-3000:]
    while told():
        assert time.monotonic() < end + 120
        time.sleep(0.1)
