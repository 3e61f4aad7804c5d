"""Every location, with every condition that ends in an error there, over HTTP/1.1 and HTTP/2: each answer is whole."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from conftest import Stack
from edge_answers import CODES, Reply, assert_error
from edge_configuration import locations
from edge_table import CONDITIONS, DOCUMENT, NOT_OUTSIDE, PLACES, Kind, Place, Row, ask, assert_whole, name_of, rows, signed
from edge_wire import Request, Way, ask_1, connected, fields, head, http2, limited
from hyperframe.frame import SettingsFrame, WindowUpdateFrame
from installation import ROOT, containers, docker, in_charge

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.requirement("BEY-13")]

# Longer than nginx keeps an idle connection to a service, and longer than the gateway takes.
KEPT_SECONDS = 4
GATEWAY_SECONDS = 1.5
HEALTH = "{{.State.Health.Status}}"


@pytest.fixture(scope="module")
def asset() -> str:
    """The name of an asset, which holds a hash of its content."""
    found = re.search(r'"/assets/([^"]+)"', ask_1(Request("/")).body.decode())
    assert found
    return found[1]


def test_every_location_of_the_running_edge_has_a_place_in_the_table() -> None:
    assert locations() == set(PLACES) | NOT_OUTSIDE


@pytest.mark.parametrize("version", [1, 2])
def test_an_address_without_its_last_slash_is_no_redirect_of_nginx(version: int) -> None:
    """nginx makes one, with a page of its own, for each location that proxies all below an address."""
    below = {match.removeprefix("^~ ") for server, match in locations() if server == "public" and match.endswith("/")} - {"/"}
    assert {"/api/", "/api/auth/"} <= below
    for path in sorted(below):
        reply = ask(Request(path.removesuffix("/")), Way.SOCKET, version)
        assert (reply.status, b"nginx" in reply.body) in {(200, False), (401, False), (404, False)}, (path, reply)


def test_every_error_of_the_contract_is_in_the_table() -> None:
    """What no request to a whole stack can bring about is named."""
    with_the_services = {429, 502, 503, 504}
    not_here = {
        403: "the gateway of this stack never answers it",
    }
    assert {condition.status for condition in CONDITIONS} | with_the_services | set(not_here) == set(CODES) - {500}


@pytest.mark.requirement("EDGE-01", "EDGE-03", "ERR-01")
@pytest.mark.parametrize("row", list(rows(PLACES.values())), ids=name_of)
def test_an_error_is_whole(stack: Stack, asset: str, row: Row) -> None:
    place, condition, version, status = row
    known = condition.signed and place.kind is Kind.PRIVATE
    found = replace(place, path=place.path.replace("ASSET", asset))
    assert_whole((found, condition, version, status), stack.session() if known else {})


Answers = dict[tuple[str, int], Reply]


API = [place for place in PLACES.values() if place.service == "api"]
# Those that fail without the gateway.
AUTH = [place for place in PLACES.values() if place.service == "auth" or place.kind is Kind.PRIVATE]


def all_at_once(places: list[Place], session: dict[str, str]) -> Answers:
    """Over both versions, each on a connection of its own."""
    asked = [(place, version) for place in places for version in (1, 2)]
    with ThreadPoolExecutor(len(asked)) as pool:
        requests = [signed(place.ask(), session if place.kind is Kind.PRIVATE else {}) for place, _ in asked]
        ways = [Way.SOCKET] * len(asked)
        replies = pool.map(ask, requests, ways, [version for _, version in asked])
        return {(place.path, version): reply for (place, version), reply in zip(asked, replies, strict=True)}


@contextmanager
def unreachable(name: str) -> Iterator[None]:
    """A service that nobody listens for, as in the moment after its end."""
    socket = ROOT / "upstream/current" / name / "http.sock"
    socket.rename(socket.with_suffix(".away"))
    try:
        # Until the connections that nginx has kept are over.
        time.sleep(KEPT_SECONDS)
        yield
    finally:
        socket.with_suffix(".away").rename(socket)


@pytest.fixture(scope="module")
def without_services(stack: Stack) -> dict[str, Answers]:
    """What is answered while one of the services cannot be reached."""
    session = stack.session()
    with unreachable("api"):
        found = {"api": all_at_once(API, session)}
    with unreachable("auth"):
        found["auth"] = all_at_once(AUTH, session)
    return found


@pytest.fixture(scope="module")
def with_frozen_services(stack: Stack) -> dict[str, Answers]:
    """What is answered while services take requests and do nothing. Both at once, since that takes as long as nginx waits."""
    session = stack.session()
    api, auth = (containers()[in_charge(name)]["Id"] for name in ("api", "auth"))
    with ThreadPoolExecutor(2) as pool:
        docker("pause", api)
        try:
            waiting = pool.submit(all_at_once, API, session)
            # The gateway has to know them before it freezes, too.
            time.sleep(GATEWAY_SECONDS)
            docker("pause", auth)
            try:
                frozen_auth = pool.submit(all_at_once, AUTH, session)
                return {"api": waiting.result(), "auth": frozen_auth.result()}
            finally:
                docker("unpause", auth)
        finally:
            docker("unpause", api)
            # gunicorn takes workers for dead that were frozen for long.
            until(lambda: all(docker("inspect", "--format", HEALTH, name) == "healthy" for name in (api, auth)))
            until(lambda: ask_1(signed(Request("/api/v1/documents"), session)).status == 200)


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.5)


def upstream_rows(api: list[Place], own: int) -> list[tuple[str, str, int, int]]:
    """(the service that is away, path, version, status); without the gateway nobody is let in to the API."""
    return [
        *(("api", place.path, version, own) for place in api for version in (1, 2)),
        *(("auth", place.path, version, 503 if place.kind is Kind.PRIVATE else own) for place in AUTH for version in (1, 2)),
    ]


def row_name(value: object) -> str:
    return str(value).replace(DOCUMENT, "ID")


@pytest.mark.requirement("ERR-01")
@pytest.mark.parametrize(("away", "path", "version", "status"), upstream_rows(API, 502), ids=row_name)
def test_an_error_is_whole_without_a_service(
    without_services: dict[str, Answers], away: str, path: str, version: int, status: int
) -> None:
    assert_error(without_services[away][path, version], status)


@pytest.mark.requirement("ERR-01")
@pytest.mark.parametrize(("away", "path", "version", "status"), upstream_rows(API, 504), ids=row_name)
def test_an_error_is_whole_when_a_service_hangs(
    with_frozen_services: dict[str, Answers], away: str, path: str, version: int, status: int
) -> None:
    assert_error(with_frozen_services[away][path, version], status)


@pytest.mark.requirement("RL-10")
def test_what_is_open_at_once_is_limited() -> None:
    """Answers that the client does not take stay open: 64 of them, on one connection."""
    with http2(Way.TLS) as client:
        client.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
        streams = range(1, 2 * 65 + 1, 2)
        for stream in streams:
            client.start(stream, fields(Request("/index.html")))
        # The first that is refused has a body as well, which waits like theirs.
        until_status = [client.status(stream) for stream in streams]
        assert (until_status[:64], until_status[64]) == ([200] * 64, 429)
        client.send(WindowUpdateFrame(streams[64], window_increment=10000))
        assert_error(client.reply(streams[64]), 429)


@pytest.mark.requirement("RL-10")
def test_so_many_connections_of_one_address_may_be_busy(stack: Stack) -> None:
    """Over HTTP/1.1, each with a body that does not come."""
    session = stack.session()
    request = signed(Request("/api/v1/documents", "POST", declared=1), session)
    with ExitStack() as held:
        for _ in range(64):
            connection = held.enter_context(connected(Way.TLS, ["http/1.1"]))
            connection.sendall(head(request, "Content-Length: 1"))
            # Slower than the limit of requests, faster than the edge loses patience.
            time.sleep(0.06)
        assert_error(ask(Request("/index.html"), Way.TLS, 1), 429)
    until(lambda: ask(Request("/index.html"), Way.TLS, 1).status == 200)


@pytest.mark.requirement("RL-10", "RL-09")
@pytest.mark.parametrize("place", [place for place in PLACES.values() if place.limit], ids=lambda place: place.path)
def test_an_error_is_whole_when_there_were_too_many(place: Place) -> None:
    """Last: it uses up the address's allowance, and waits until there is some again."""
    request = place.ask()
    for version in (1, 2):
        assert_error(limited(request, version), 429)
    until(lambda: ask(request, Way.TLS, 1).status != 429)
