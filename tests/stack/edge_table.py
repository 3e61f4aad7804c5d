"""The edge's locations and all that can be wrong with a request to one: what each answer must then be."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

from edge_answers import CLOSED, Reply, assert_error
from edge_wire import Address, Request, Way, ask_1, ask_2, say

MIB = 1 << 20
# Where the answer is the same whatever the length: nobody takes the body.
UNLIMITED = 0
OTHER = "other.example"
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
    CHALLENGE = "serves what an authority asks for"


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
    ),
    # Where edge_public_paths says so.
    ("public", "= /api/v1/health/live"): Place("/api/v1/health/live", Kind.OPEN, service="api", limit="api"),
    ("public", "^~ /api/v1/hooks/"): Place(
        "/api/v1/hooks/x", Kind.OPEN, nothing_at="/api/v1/hooks/none", service="api", limit="api"
    ),
    ("public", "= /api/v1/hooks"): Place("/api/v1/hooks", Kind.PRIVATE, nothing_at="/api/v1/hooks", service="api", limit="api"),
    ("public", "^~ /assets/"): Place("/assets/ASSET", Kind.ASSET, nothing_at="/assets/none.css"),
    ("public", "/"): Place("/index.html", Kind.PAGE, nothing_at="/none.txt"),
    ("redirect", "= /__err"): Place("/__err", Kind.NOTHING, Way.PLAIN, UNLIMITED),
    ("redirect", "= /__page"): Place("/__page", Kind.NOTHING, Way.PLAIN, UNLIMITED),
    ("redirect", "/"): Place("/some/where", Kind.REDIRECT, Way.PLAIN),
    ("refused", "= /__err"): Place("/__err", Kind.NOTHING, Way.TLS, UNLIMITED, name=OTHER),
    ("refused", "= /__page"): Place("/__page", Kind.NOTHING, Way.TLS, UNLIMITED, name=OTHER),
    ("refused", "/"): Place("/some/where", Kind.STRANGER, Way.TLS, name=OTHER),
}
# Where tls_mode is acme; the paths and the name are those of tests/acme.
CHALLENGES = "/.well-known/acme-challenge/"
PLACES_OF_ACME = {
    ("redirect", f"^~ {CHALLENGES}"): Place(f"{CHALLENGES}a.file", Kind.NOTHING, Way.PLAIN),
    ("redirect", r"~ ^/\.well-known/acme-challenge/[A-Za-z0-9_-]+\z"): Place(
        f"{CHALLENGES}a-token_1", Kind.CHALLENGE, Way.PLAIN, nothing_at=f"{CHALLENGES}none"
    ),
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
FILES = SERVED | {Kind.CHALLENGE}
ALL = set(Kind)
OUR_NAME_OVER_TLS = ALL - {Kind.STRANGER, Kind.REDIRECT, Kind.CHALLENGE}

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
    Condition("nothing there", 404, PROXIED | FILES, lambda p: p.ask(p.nothing_at)),
    Condition("unknown method", 405, PROXIED | FILES, lambda p: p.ask(method="FOO")),
    Condition("TRACE", 405, ALL, lambda p: p.ask(method="TRACE")),
    Condition("CONNECT", 405, ALL, lambda p: p.ask(method="CONNECT")),
    Condition("POST", 405, FILES, lambda p: p.ask(method="POST")),
    Condition("changed since", 412, FILES, lambda p: p.ask(headers=(("If-Match", '"x"'),))),
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


# (place, condition, version of HTTP, status)
Row = tuple[Place, Condition, int, int]


def rows(places: Iterable[Place]) -> Iterator[Row]:
    for place in places:
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


def name_of(row: Row) -> str:
    place, condition, version, _ = row
    return f"{place.way.value}:{place.path.replace(DOCUMENT, 'ID')} - {condition.name} - {version}"


def signed(request: Request, session: Mapping[str, str]) -> Request:
    return replace(request, headers=(*request.headers, *session.items()))


def ask(request: Request | bytes, way: Way, version: int, at: Address | None = None) -> Reply:
    """The one answer to a request, or to bytes that only HTTP/1.1 can say."""
    if isinstance(request, bytes):
        replies = say(request, way, at=at)
        assert len(replies) == 1, replies
        return replies[0]
    return (ask_1 if version == 1 else ask_2)(request, way, at=at)


def assert_whole(row: Row, headers: Mapping[str, str], at: Address | None = None) -> None:
    """What the edge answers where that is wrong is an error as the contract has it, and bears the request's own id."""
    place, condition, version, status = row
    way = condition.way or place.way
    request = condition.build(place)
    mine = uuid.uuid4().hex
    if isinstance(request, Request):
        request = signed(replace(request, headers=(("X-Request-ID", mine), *request.headers)), headers)
    reply = ask(request, way, version, at)
    if status == CLOSED:
        assert (reply.status, reply.reason is not None) == (CLOSED, True), reply
        return
    assert_error(reply, status, tls=way in {Way.SOCKET, Way.TLS})
    # A request whose start is wrong has no headers yet.
    if isinstance(request, Request) and status != 414 and "%" not in request.target:
        assert reply.one("x-request-id") == mine
