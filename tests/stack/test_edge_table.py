"""Every location, with every condition that ends in an error there, over HTTP/1.1 and HTTP/2: each answer is whole."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

import pytest
from conftest import Stack
from edge_answers import CLOSED, CODES, Reply, assert_error
from edge_configuration import locations
from edge_wire import Request, Way, ask_1, ask_2, fields, http2, limited, say
from hyperframe.frame import SettingsFrame, WindowUpdateFrame
from installation import ROOT, containers, docker, in_charge

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.requirement("BEY-13")]

MIB = 1 << 20
# Where the answer is the same whatever the length: nobody takes the body.
UNLIMITED = 0
OTHER = "other.example"
# Longer than nginx keeps an idle connection to a service, and longer than the gateway takes.
KEPT_SECONDS = 4
GATEWAY_SECONDS = 1.5
HEALTH = "{{.State.Health.Status}}"
DOCUMENT = "00000000-0000-4000-8000-000000000001"


class Kind(Enum):
    """What a location does with a good request."""

    NOTHING = "is not there for anybody outside"
    OPEN = "proxies for everybody"
    PRIVATE = "proxies for whom the gateway knows"
    ASSET = "serves files"
    PAGE = "serves the console's page"
    REDIRECT = "leads to TLS"
    STRANGER = "answers for names that are not ours"


@dataclass(frozen=True)
class Place:
    """One location and an address that it answers."""

    path: str
    kind: Kind
    way: Way = Way.SOCKET
    body_limit: int = MIB
    # An address in it that nothing answers.
    nothing_at: str = ""
    # The service that it needs, and the limit that counts its requests.
    service: str = ""
    limit: str = ""
    name: str = "localhost"
    # A socket may be silent for longer than a test waits.
    patient: bool = False

    def ask(
        self,
        path: str = "",
        method: str = "GET",
        *,
        host: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        declared: int | None = None,
        chunked: bool = False,
    ) -> Request:
        return Request(path or self.path, method, host or self.name, headers, body, declared, chunked)

    def say(self, *lines: str, start: str = "") -> bytes:
        """HTTP/1.1 that no library would write, so that nothing is added to it."""
        return "\r\n".join([start or f"GET {self.path} HTTP/1.1", *lines, "", ""]).encode("latin-1")

    @property
    def host(self) -> str:
        return f"Host: {self.name}"


# (server, location) as the running nginx has them: a new one needs a line here, or one below.
PLACES = {
    ("public", "= /__err"): Place("/__err", Kind.NOTHING, body_limit=UNLIMITED),
    ("public", "= /__page"): Place("/__page", Kind.NOTHING, body_limit=UNLIMITED),
    ("public", "= /internal/verify"): Place("/internal/verify", Kind.NOTHING, body_limit=UNLIMITED),
    ("public", "^~ /internal"): Place("/internal/x", Kind.NOTHING),
    ("public", "= /metrics"): Place("/metrics", Kind.NOTHING),
    ("public", "= /readyz"): Place("/readyz", Kind.NOTHING),
    ("public", "= /api/v1/health/ready"): Place("/api/v1/health/ready", Kind.NOTHING),
    ("public", "= /api"): Place("/api", Kind.NOTHING),
    ("public", "= /api/auth"): Place("/api/auth", Kind.NOTHING),
    ("public", "= /healthz"): Place("/healthz", Kind.OPEN, body_limit=1, service="api", limit="api"),
    ("public", "^~ /api/auth/"): Place(
        "/api/auth/login", Kind.OPEN, body_limit=16384, nothing_at="/api/auth/none", service="auth", limit="auth"
    ),
    ("public", "= /openapi.json"): Place("/openapi.json", Kind.PRIVATE, service="api", limit="api"),
    ("public", "^~ /api/"): Place("/api/v1/documents", Kind.PRIVATE, nothing_at="/api/v1/none", service="api", limit="api"),
    ("public", r"~ ^/api/v1/documents/[^/]+/live\z"): Place(
        f"/api/v1/documents/{DOCUMENT}/live",
        Kind.PRIVATE,
        nothing_at=f"/api/v1/documents/{DOCUMENT}/live",
        service="api",
        limit="api",
        patient=True,
    ),
    ("public", "^~ /assets/"): Place("/assets/ASSET", Kind.ASSET, nothing_at="/assets/none.css"),
    ("public", "/"): Place("/index.html", Kind.PAGE, nothing_at="/none.txt"),
    ("redirect", "= /__err"): Place("/__err", Kind.NOTHING, Way.PLAIN, UNLIMITED),
    ("redirect", "= /__page"): Place("/__page", Kind.NOTHING, Way.PLAIN, UNLIMITED),
    ("redirect", "/"): Place("/some/where", Kind.REDIRECT, Way.PLAIN),
    ("refused", "= /__err"): Place("/__err", Kind.NOTHING, Way.TLS, UNLIMITED, name=OTHER),
    ("refused", "= /__page"): Place("/__page", Kind.NOTHING, Way.TLS, UNLIMITED, name=OTHER),
    ("refused", "/"): Place("/some/where", Kind.STRANGER, Way.TLS, name=OTHER),
}
# Behind a socket that only the host's root and the edge can enter.
NOT_OUTSIDE = {
    ("status", match)
    for match in ("= /__err", "= /__page", "= /healthz", "= /config", "= /stub_status", "= /upstream/api", "= /upstream/auth")
}

PROXIED = {Kind.OPEN, Kind.PRIVATE}
SERVED = {Kind.ASSET, Kind.PAGE}
ERRORS = {"/__err", "/__page"}
# The others refuse or redirect whatever the path is.
LOOK_AT_THE_PATH = PROXIED | SERVED
ALL = set(Kind)
OUR_NAME_OVER_TLS = ALL - {Kind.STRANGER, Kind.REDIRECT}

AS_OVER_1 = -1


@dataclass(frozen=True)
class Condition:
    """What is wrong with a request, and where that can be. Bytes can only be said over HTTP/1.1."""

    name: str
    status: int
    kinds: set[Kind]
    build: Callable[[Place], Request | bytes]
    # None where HTTP/2 has no such request; CLOSED where nginx ends the connection instead of answering.
    over_2: int | None = AS_OVER_1
    way: Way | None = None
    signed: bool = True


def large(field: str, length: int) -> tuple[tuple[str, str], ...]:
    return ((field, "a" * length),)


def asked_below(prefix: str, place: Place) -> Request:
    return place.ask(prefix + place.path)


PATHS = {
    "encoded slash": "/x%2f..",
    "encoded backslash": "/x%5c/..",
    "backslash": "/x\\/..",
    "parameter": "/x;y/..",
    "dot segment": "/x/..",
    "encoded dot segment": "/x/%2e%2E",
    "single dot": "/.",
}
CONDITIONS = [
    *(Condition(name, 400, LOOK_AT_THE_PATH, partial(asked_below, prefix)) for name, prefix in PATHS.items()),
    Condition("encoded NUL", 400, ALL, lambda p: p.ask(f"/x%00/..{p.path}")),
    Condition("half an escape", 400, ALL, lambda p: p.ask(f"{p.path}%2")),
    Condition("garbage", 400, ALL, lambda p: p.say(start="\x01\x02 of no protocol at all")),
    Condition("no name", 400, ALL, lambda p: p.say()),
    Condition("two names", 400, ALL, lambda p: p.say(p.host, p.host)),
    Condition("two framings", 400, ALL, lambda p: p.say(p.host, "Content-Length: 1", "Transfer-Encoding: chunked")),
    Condition("space before a colon", 400, ALL, lambda p: p.say(p.host, "X-Spaced : x")),
    Condition("no token", 401, {Kind.PRIVATE}, lambda p: p.ask(), signed=False),
    Condition("bad token", 401, {Kind.PRIVATE}, lambda p: p.ask(headers=(("Authorization", "Bearer x"),)), signed=False),
    Condition("no such place", 404, {Kind.NOTHING}, lambda p: p.ask()),
    Condition("nothing there", 404, LOOK_AT_THE_PATH, lambda p: p.ask(p.nothing_at)),
    Condition("unknown method", 405, LOOK_AT_THE_PATH, lambda p: p.ask(method="FOO")),
    Condition("TRACE", 405, ALL, lambda p: p.ask(method="TRACE")),
    Condition("CONNECT", 405, ALL, lambda p: p.ask(method="CONNECT")),
    Condition("POST", 405, SERVED, lambda p: p.ask(method="POST")),
    Condition("changed since", 412, SERVED, lambda p: p.ask(headers=(("If-Match", '"x"'),))),
    Condition("length too large", 413, ALL, lambda p: p.ask(method="POST", declared=p.body_limit + 1)),
    Condition(
        "length too large, asked before",
        413,
        ALL,
        lambda p: p.ask(method="POST", declared=p.body_limit + 1, headers=(("Expect", "100-continue"),)),
    ),
    Condition("body too large", 413, PROXIED, lambda p: p.ask(method="POST", body=b"x" * (p.body_limit + 65536), chunked=True)),
    # Over HTTP/2 it is as long as compression makes it.
    Condition("address too long", 414, ALL, lambda p: p.ask(f"{p.path}?{'a' * 9000}"), over_2=None),
    Condition("address far too long", 414, ALL, lambda p: p.ask(f"{p.path}?{'a' * 20000}"), over_2=CLOSED),
    Condition("other name", 421, OUR_NAME_OVER_TLS, lambda p: p.ask(host=OTHER), way=Way.TLS),
    Condition("nobody's name", 421, {Kind.STRANGER}, lambda p: p.ask()),
    Condition("header too large", 431, ALL, lambda p: p.ask(headers=large("X-Large", 20000)), over_2=CLOSED),
    Condition("too many headers", 431, ALL, lambda p: p.ask(headers=large("X-Many", 1) * 101)),
    Condition("no TLS", 400, OUR_NAME_OVER_TLS, lambda p: p.say(p.host), way=Way.PLAIN_TO_TLS),
    Condition("unknown coding", 501, ALL, lambda p: p.say(p.host, "Transfer-Encoding: gzip")),
    Condition("unknown version", 505, ALL, lambda p: p.say(p.host, start=f"GET {p.path} HTTP/3.0")),
]


def rows() -> Iterator[tuple[Place, Condition, int, int]]:
    """(place, condition, version of HTTP, status)"""
    for place in PLACES.values():
        for condition in CONDITIONS:
            if place.kind not in condition.kinds or (condition.name == "nothing there" and not place.nothing_at):
                continue
            if condition.status == 413 and place.body_limit == UNLIMITED:
                continue
            # The address of the errors is nowhere, whatever the name.
            if condition.way is not None and (place.path in ERRORS or place.way is Way.PLAIN or place.name == OTHER):
                continue
            yield place, condition, 1, condition.status
            over_2 = condition.status if condition.over_2 == AS_OVER_1 else condition.over_2
            if over_2 is not None and not isinstance(condition.build(place), bytes):
                yield place, condition, 2, over_2


def name_of(row: tuple[Place, Condition, int, int]) -> str:
    place, condition, version, _ = row
    return f"{place.way.value}:{place.path.replace(DOCUMENT, 'ID')} - {condition.name} - {version}"


@pytest.fixture(scope="module")
def asset() -> str:
    """The name of an asset, which holds a hash of its content."""
    found = re.search(r'"/assets/([^"]+)"', ask_1(Request("/")).body.decode())
    assert found
    return found[1]


def signed(request: Request, session: dict[str, str]) -> Request:
    return replace(request, headers=(*request.headers, *session.items()))


def ask(request: Request | bytes, way: Way, version: int) -> Reply:
    if isinstance(request, bytes):
        replies = say(request, way)
        assert len(replies) == 1, replies
        return replies[0]
    return (ask_1 if version == 1 else ask_2)(request, way)


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
@pytest.mark.parametrize("row", list(rows()), ids=name_of)
def test_an_error_is_whole(stack: Stack, asset: str, row: tuple[Place, Condition, int, int]) -> None:
    place, condition, version, status = row
    way = condition.way or place.way
    request = condition.build(replace(place, path=place.path.replace("ASSET", asset)))
    mine = uuid.uuid4().hex
    if isinstance(request, Request):
        request = replace(request, headers=(("X-Request-ID", mine), *request.headers))
        if condition.signed and place.kind is Kind.PRIVATE:
            request = signed(request, stack.session())
    reply = ask(request, way, version)
    if status == CLOSED:
        assert (reply.status, reply.reason is not None) == (CLOSED, True), reply
        return
    assert_error(reply, status, tls=way in {Way.SOCKET, Way.TLS})
    # A request whose start is wrong has no headers yet.
    if isinstance(request, Request) and status != 414 and "%" not in request.target:
        assert reply.one("x-request-id") == mine


Answers = dict[tuple[str, int], Reply]


API = [place for place in PLACES.values() if place.service == "api"]
# Those that fail without the gateway.
AUTH = [place for place in PLACES.values() if place.service == "auth" or place.kind is Kind.PRIVATE]
IMPATIENT = [place for place in API if not place.patient]


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
            waiting = pool.submit(all_at_once, IMPATIENT, session)
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
@pytest.mark.parametrize(("away", "path", "version", "status"), upstream_rows(IMPATIENT, 504), ids=row_name)
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


@pytest.mark.requirement("RL-10", "RL-09")
@pytest.mark.parametrize("place", [place for place in PLACES.values() if place.limit], ids=lambda place: place.path)
def test_an_error_is_whole_when_there_were_too_many(place: Place) -> None:
    """Last: it uses up the address's allowance, and waits until there is some again."""
    request = place.ask()
    for version in (1, 2):
        assert_error(limited(request, version), 429)
    until(lambda: ask(request, Way.TLS, 1).status != 429)
