"""The edge's settings, each seen from outside: whom it lets in, counts, believes and closes to."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from conftest import Stack
from edge_answers import Reply, assert_error
from edge_configuration import dump, found_by_gixy
from edge_table import LOOK_AT_THE_PATH, PLACES
from edge_table import ask as answer_to
from edge_wire import Request, Way
from installation import HTTPS_PORT, REPOSITORY, ROOT, Answer, ask, ask_when_allowed, connect, containers, docker, seawall
from judges import judge
from test_from_outside import is_envelope

# The tests come through the engine's network, which stands for a proxy here: the header says who the client is.
PROXIES = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
ALLOWED = "198.51.100.7"
LET_THROUGH = "198.51.100.8"
UNLIMITED = "198.51.100.70"
STRANGER = "192.0.2.1"
PAGES = "https://pages.example"
LIVE = "/api/v1/health/live"
HOOKS = "/api/v1/hooks/"
RETRY_AFTER = 77
# So slow that the busiest machine is faster.
PER_SECOND, BURST, FLOOD = 2, 20, 60
SOCKETS = 2

DEFAULTS = yaml.safe_load((REPOSITORY / "roles/edge/defaults/main.yml").read_text(encoding="utf-8"))
TUNED: dict[str, Any] = {
    "edge_limits": DEFAULTS["edge_limits"] | {"api_per_second": PER_SECOND, "api_burst": BURST, "sockets": SOCKETS},
    "edge_trusted_proxies": {"networks": PROXIES, "header": "X-Forwarded-For"},
    "edge_allowed_networks": ["198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32"],
    "edge_limit_rules": {"dry_run": False, "exempt_networks": ["198.51.100.64/26"], "per_token_enabled": True},
    "edge_maintenance": {"allowed_networks": [f"{LET_THROUGH}/32"], "retry_after_seconds": RETRY_AFTER},
    "edge_public_paths": [LIVE, HOOKS],
    "edge_tls_profile": "modern",
    "api_cors_origins": [PAGES],
}


def deploy(settings: dict[str, Any]) -> None:
    run = seawall("deploy", "--extra-vars", json.dumps(settings))
    assert run.code == 0, run.output[-4000:]


@pytest.fixture(scope="module")
def tuned(stack: Stack) -> Iterator[Stack]:
    deploy(TUNED)
    try:
        yield stack
    finally:
        deploy({})


def of(address: str, *more: dict[str, str]) -> dict[str, str]:
    headers = {"X-Forwarded-For": address}
    for other in more:
        headers |= other
    return headers


def logged(request_id: str) -> dict[str, Any]:
    edge = containers()["edge"]["Id"]
    lines = [json.loads(line) for line in docker("logs", "--since", "2m", edge).splitlines() if request_id in line]
    (line,) = [line for line in lines if line["request_id"] == request_id]
    return dict(line)


def statuses(address: str) -> set[int]:
    return {ask(LIVE, headers=of(address)).status for _ in range(FLOOD)}


# Each counts for itself.
somebody = (f"198.18.{number // 250}.{number % 250 + 1}" for number in itertools.count())


@pytest.mark.usefixtures("stack")
@pytest.mark.requirement("BEY-13")
@pytest.mark.parametrize(
    ("path", "sent", "page"),
    [
        ("/assets/gone.js", {"Sec-Fetch-Mode": "navigate", "Accept": "*/*"}, True),
        # A browser from before it said what a request is for.
        ("/assets/gone.js", {"Accept": "text/html,application/xhtml+xml"}, True),
        ("/assets/gone.js", {"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, False),
        ("/assets/gone.js", {}, False),
        ("/metrics", {"Accept": "text/html"}, True),
        ("/api/nowhere", {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}, False),
        ("/api", {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}, False),
    ],
)
def test_a_person_gets_a_page_and_a_program_the_envelope(path: str, sent: dict[str, str], page: bool) -> None:
    request_id = f"<script>{uuid.uuid4()}"
    answer = ask(path, headers=sent | {"X-Request-ID": request_id})
    assert answer.status in {401, 404}
    assert answer.headers["cache-control"] == "no-store"
    if page:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["x-request-id"] in answer.body
        assert "<script>" not in answer.body
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    else:
        assert is_envelope(answer, "unauthorized" if answer.status == 401 else "not_found")


@pytest.mark.usefixtures("stack")
def test_nobody_says_who_he_is_where_no_proxy_is_trusted() -> None:
    request_id = str(uuid.uuid4())
    told = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "Forwarded"), "203.0.113.9")
    # Where no limit counts: another test may have used up what this address may ask.
    assert ask("/", headers=told | {"X-Request-ID": request_id}).status == 200
    line = logged(request_id)
    assert line["client"] == line["peer"] != "203.0.113.9"


@pytest.mark.usefixtures("stack")
@pytest.mark.requirement("LOG-13")
def test_the_log_tells_the_method_that_was_asked() -> None:
    request_id = str(uuid.uuid4())
    assert ask("/metrics", "POST", {}, {"X-Request-ID": request_id}).status == 404
    assert logged(request_id)["method"] == "POST"


def is_forbidden(answer: Answer) -> bool:
    error = answer.body["error"]
    return bool(error["code"] == "forbidden" and error["request_id"] == answer.headers["x-request-id"])


def until(path: str, status: int, headers: dict[str, str]) -> None:
    """nginx may know for a second what it saw last, and a container that is started again answers nobody for a moment."""
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = ask(path, headers=headers)
            if answer.status == status:
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def whole_everywhere(status: int, address: str, but: frozenset[str] = frozenset()) -> Iterator[Reply]:
    """The answers to a client in every location that serves somebody, over both versions; TLS ends at the proxy."""
    places = [place for place in PLACES.values() if place.kind in LOOK_AT_THE_PATH and place.path not in but]
    assert len(places) >= 5
    for place, version in itertools.product(places, (1, 2)):
        reply = answer_to(Request(place.path, headers=tuple(of(address).items())), Way.TLS, version)
        assert_error(reply, status, tls=False)
        yield reply


def closed_to_clients(session: dict[str, str]) -> None:
    until("/api/v1/documents", 503, of(UNLIMITED, session))
    # Whoever watches is told that it lives, and the parts of pages are served.
    for reply in whole_everywhere(503, UNLIMITED, but=frozenset({"/healthz", "/assets/ASSET"})):
        assert reply.one("retry-after") == str(RETRY_AFTER)
    for path in ("/api/v1/documents", "/api/auth/login", LIVE, "/", "/openapi.json"):
        answer = ask(path, headers=of(UNLIMITED, session))
        assert (answer.status, answer.headers["retry-after"]) == (503, str(RETRY_AFTER)), path
        error = answer.body["error"]
        assert (error["code"], error["message"]) == ("service_unavailable", "Closed for maintenance")
    page = ask("/documents/7", headers=of(UNLIMITED, {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}))
    assert (page.status, page.headers["content-type"], page.headers["retry-after"]) == (
        503,
        "text/html; charset=utf-8",
        str(RETRY_AFTER),
    )
    assert "<h1>Closed for maintenance</h1>" in page.body
    assert ask("/healthz", headers=of(UNLIMITED)).status == 200
    assert ask("/api/v1/documents", headers=of(LET_THROUGH, session)).status == 200
    assert ask("/", headers=of(LET_THROUGH)).status == 200


@dataclass(frozen=True)
class Watched:
    """A document, and the headers of who may see it."""

    path: str
    session: dict[str, str]


@pytest.fixture(scope="module")
def watched(tuned: Stack) -> Watched:
    credentials = {"username": tuned.user, "password": tuned.password}
    signed_in = ask("/api/auth/login", "POST", credentials, of(next(somebody))).body
    session = {"Authorization": f"Bearer {signed_in['access_token']}"}
    created = ask("/api/v1/documents", "POST", {"title": "Many look at it"}, of(next(somebody), session))
    assert created.status == 201, created
    return Watched(f"/api/v1/documents/{created.body['id']}/live", session)


@contextlib.contextmanager
def live_tails(watched: Watched, address: str, count: int) -> Iterator[tuple[list[int], Callable[[str], tuple[int, str]]]]:
    """The statuses of so many upgrades that stay open, and how to ask for another one."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"sixteen bytes ab").decode(),
    }
    with contextlib.ExitStack() as opened:

        def another(client: str) -> tuple[int, str]:
            connection = opened.enter_context(contextlib.closing(connect()))
            connection.request("GET", watched.path, headers=of(client, watched.session, upgrade))
            answer = connection.getresponse()
            return answer.status, "" if answer.status == 101 else answer.read().decode()

        yield [another(address)[0] for _ in range(count)], another


# After those that need no setting: the settings stay for the rest of the file.
@pytest.mark.usefixtures("tuned")
class TestTuned:
    @pytest.mark.requirement("C3", "SEC-05")
    @pytest.mark.parametrize(
        ("header", "client"),
        [
            (ALLOWED, ALLOWED),
            # What a client claims itself stands to the left of what the proxy saw.
            (f"203.0.113.1, {ALLOWED}", ALLOWED),
            (f"{STRANGER}, unknown, {ALLOWED}", ALLOWED),
        ],
    )
    def test_the_client_is_whom_the_proxy_saw(self, header: str, client: str) -> None:
        request_id = str(uuid.uuid4())
        assert ask("/healthz", headers=of(header, {"X-Request-ID": request_id})).status == 200
        line = logged(request_id)
        assert line["client"] == client
        assert line["peer"] != client

    @pytest.mark.parametrize("address", [STRANGER, f"{ALLOWED}, {STRANGER}", "2001:db9::1"])
    def test_who_is_not_allowed_gets_nowhere(self, address: str) -> None:
        for path in ("/", "/healthz", "/api/v1/documents", "/api/auth/login", LIVE, "/assets/mark.svg"):
            answer = ask(path, headers=of(address))
            assert answer.status == 403, path
            assert is_forbidden(answer)
        assert list(whole_everywhere(403, address))

    def test_who_sends_no_header_is_the_proxy_itself(self) -> None:
        assert ask("/healthz").status == 403

    @pytest.mark.requirement("EDGE-02")
    def test_hsts_is_left_to_whoever_ends_the_clients_tls(self) -> None:
        for path in ("/", "/api/v1/documents"):
            assert "strict-transport-security" not in ask(path, headers=of(ALLOWED)).headers

    @pytest.mark.requirement("BEY-16")
    def test_gixy_finds_nothing(self) -> None:
        assert found_by_gixy(dump()) == []

    def test_modern_refuses_what_came_before(self) -> None:
        context = ssl.create_default_context(cafile=str(ROOT / "tls/ca.pem"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", HTTPS_PORT), timeout=10) as plain,
            pytest.raises(ssl.SSLError, match="alert protocol version"),
        ):
            context.wrap_socket(plain, server_hostname="localhost")

    def test_a_public_path_needs_no_token_and_others_do(self) -> None:
        assert ask(LIVE, headers=of(ALLOWED)).status == 200
        assert ask(f"{HOOKS}x", headers=of(ALLOWED)).status == 404
        for path in (f"{LIVE}/more", "/api/v1/health", "/api/v1/documents", HOOKS.removesuffix("/")):
            answer = ask(path, headers=of(ALLOWED))
            assert (answer.status, answer.body["error"]["code"]) == (401, "unauthorized")

    @pytest.mark.requirement("RL-10", "BEY-15")
    def test_who_is_exempt_is_not_counted_and_others_are(self) -> None:
        assert statuses(UNLIMITED) == {200}
        assert statuses(next(somebody)) == {200, 429}

    @pytest.mark.requirement("BEY-15")
    def test_addresses_of_one_ipv6_network_are_one_client(self) -> None:
        addresses = [f"2001:db8:0:1::{number:x}" for number in range(FLOOD)]
        assert {ask(LIVE, headers=of(address)).status for address in addresses} == {200, 429}
        assert ask(LIVE, headers=of("2001:db8:0:2::1")).status == 200

    @pytest.mark.requirement("BEY-15")
    def test_an_ipv4_address_that_is_written_as_one_of_ipv6_is_that_client_and_no_other(self) -> None:
        address = next(somebody)
        assert statuses(f"::ffff:{address}") == {200, 429}
        assert 429 in statuses(address)
        assert ask(LIVE, headers=of(f"::ffff:{next(somebody)}")).status == 200

    @pytest.mark.requirement("RL-10")
    @pytest.mark.parametrize(
        "spelling",
        [
            lambda claims, _: f"Bearer {claims}.sig",
            # The scheme is read in any case, and spaces around the token are not.
            lambda claims, number: f"{'Bearer' if number % 2 else 'bEARER'}{' ' * (1 + number)}{claims}.sig",
            # What base64 does not know is skipped where a signature is decoded.
            lambda claims, number: f"Bearer {claims}.s{'!' * number}ig",
            lambda claims, number: f"Basic {claims}{number}",
            lambda claims, number: f"{claims}{number}",
        ],
        ids=["one", "scheme", "signature", "another scheme", "garbage"],
    )
    def test_one_token_is_one_client_from_wherever_it_comes(self, spelling: Callable[[str, int], str]) -> None:
        claims = f"{uuid.uuid4().hex}.claims"
        sent = [of(next(somebody), {"Authorization": spelling(claims, number)}) for number in range(FLOOD)]
        answered = {ask("/api/v1/documents", headers=headers).status for headers in sent}
        # What is no token shares one allowance, which the case before may have used up.
        assert 429 in answered <= {401, 429}
        another = {"Authorization": f"Bearer another.{claims}"}
        assert ask("/api/v1/documents", headers=of(next(somebody), another)).status == 401

    @pytest.mark.requirement("RL-10")
    def test_a_token_in_the_place_of_a_socket_s_counts_as_well(self) -> None:
        protocols = {"Upgrade": "websocket", "Sec-WebSocket-Protocol": f"seawall.v1, bearer.{uuid.uuid4().hex}.claims.sig"}
        sent = [of(next(somebody), protocols) for _ in range(FLOOD)]
        path = f"/api/v1/documents/{uuid.uuid4()}/live"
        assert {ask(path, headers=headers).status for headers in sent} == {401, 429}

    @pytest.mark.requirement("RL-10")
    def test_where_nobody_asks_for_a_token_none_is_counted(self) -> None:
        """What is no token shares one allowance, so a stranger who uses it up would shut out all who have a password there."""
        password = {"Authorization": "Basic bm9ib2R5Om5vYm9keQ=="}
        assert 429 in {ask("/api/v1/documents", headers=of(next(somebody), password)).status for _ in range(FLOOD)}
        assert ask(f"{HOOKS}x", headers=of(next(somebody), password)).status == 404
        assert ask("/healthz", headers=of(next(somebody), password)).status == 200

    def test_pages_of_allowed_origins_can_read_what_the_edge_refuses(self) -> None:
        for origin, told in ((PAGES, PAGES), ("https://evil.example", None)):
            answer = ask("/api/v1/documents", headers=of(next(somebody), {"Origin": origin}))
            assert answer.status == 401
            assert answer.headers.get("access-control-allow-origin") == told
            assert answer.headers.get("access-control-expose-headers") == ("X-Request-ID, Retry-After" if told else None)
            assert answer.headers["vary"] == "Origin"

    @pytest.mark.requirement("WS-03")
    @pytest.mark.parametrize(
        ("origin", "status"),
        [("https://localhost", 101), (f"https://localhost:{HTTPS_PORT}", 101), (PAGES, 101), ("https://evil.example", 403)],
    )
    def test_a_page_may_open_a_socket_also_by_the_port_of_the_proxy(self, tuned: Stack, origin: str, status: int) -> None:
        credentials = {"username": tuned.user, "password": tuned.password}
        signed_in = ask_when_allowed("/api/auth/login", "POST", credentials, of(ALLOWED)).body
        session = of(next(somebody), {"Authorization": f"Bearer {signed_in['access_token']}"})
        document = ask("/api/v1/documents", "POST", {"title": "Watched"}, session).body["id"]
        handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        handshake |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": origin}
        connection = connect()
        try:
            connection.request("GET", f"/api/v1/documents/{document}/live", headers=session | handshake)
            assert connection.getresponse().status == status
        finally:
            connection.close()

    @pytest.mark.requirement("BEY-16")
    def test_maintenance(self, tuned: Stack) -> None:
        credentials = {"username": tuned.user, "password": tuned.password}
        signed_in = ask("/api/auth/login", "POST", credentials, of(LET_THROUGH)).body
        session = {"Authorization": f"Bearer {signed_in['access_token']}"}
        try:
            switched = seawall("maintenance", "on")
            assert (switched.code, switched.recap["changed"]) == (0, 1), switched.output
            assert seawall("maintenance", "on").recap["changed"] == 0
            assert "maintenance  ON for " in seawall("status").output
            edge = containers()["edge"]["Id"]
            for again in ([], ["exec", edge, "nginx", "-s", "reload"], ["restart", edge]):
                if again:
                    docker(*again)
                until("/healthz", 200, of(UNLIMITED))
                closed_to_clients(session)
            # A deploy meanwhile is no reason to open, and finds the service well.
            deploy(TUNED)
            closed_to_clients(session)
        finally:
            switched = seawall("maintenance", "off")
        assert (switched.code, switched.recap["changed"]) == (0, 1), switched.output
        assert "maintenance  off" in seawall("status").output
        until("/api/v1/documents", 200, of(UNLIMITED, session))

    @pytest.mark.requirement("RL-10")
    def test_an_address_has_so_many_sockets_at_once(self, watched: Watched) -> None:
        address = next(somebody)
        with live_tails(watched, address, SOCKETS) as (opened, ask_for_more):
            assert opened == [101] * SOCKETS
            status, reply = ask_for_more(address)
            assert (status, json.loads(reply)["error"]["code"]) == (429, "rate_limited")
            assert ask_for_more(next(somebody))[0] == 101
        # What has ended counts no more.
        deadline = time.monotonic() + 30
        opened = []
        while opened != [101]:
            assert time.monotonic() < deadline
            time.sleep(0.5)
            with live_tails(watched, address, 1) as (opened, _):
                pass

    @pytest.mark.requirement("RL-10")
    def test_limits_that_are_only_tried_refuse_nobody(self, watched: Watched) -> None:
        deploy(TUNED | {"edge_limit_rules": TUNED["edge_limit_rules"] | {"dry_run": True}})
        with live_tails(watched, next(somebody), SOCKETS + 1) as (opened, _):
            assert opened == [101] * (SOCKETS + 1)
        address, request_id = next(somebody), str(uuid.uuid4())
        assert statuses(address) == {200}
        assert ask(LIVE, headers=of(address, {"X-Request-ID": request_id})).status == 200
        assert logged(request_id)["limit"] == "REJECTED_DRY_RUN"

    @pytest.mark.requirement("C3", "SEC-05")
    def test_only_the_proxies_that_are_named_are_believed_and_only_in_their_header(self) -> None:
        request_id = str(uuid.uuid4())
        ask("/healthz", headers=of(ALLOWED, {"X-Request-ID": request_id}))
        here = logged(request_id)["peer"]
        deploy(TUNED | {"edge_trusted_proxies": {"networks": [f"{here}/32"], "header": "CF-Connecting-IP"}})
        told = {"CF-Connecting-IP": ALLOWED, "X-Forwarded-For": LET_THROUGH, "X-Request-ID": f"named-{request_id}"}
        assert ask("/healthz", headers=told).status == 200
        assert (logged(f"named-{request_id}")["client"], logged(f"named-{request_id}")["peer"]) == (ALLOWED, here)
        # In the other header a client may claim what it likes, so this is the proxy itself, for whom nothing is open.
        assert ask("/healthz", headers=of(ALLOWED)).status == 403
        # Another machine of the same network says the same.
        edge = containers()["edge"]["NetworkSettings"]["Networks"]
        (network,) = (name for name, at in edge.items() if at["Gateway"] == here)
        told["X-Request-ID"] = f"stranger-{request_id}"
        sent = [option for header in told.items() for option in ("--header", ": ".join(header))]
        where = ("--insecure", "--connect-to", f"localhost:443:{edge[network]['IPAddress']}:8443", "https://localhost/healthz")
        answer = judge("curl", "--silent", "--include", "--http1.1", *sent, *where, network=network)
        assert answer.startswith("HTTP/1.1 403"), answer
        line = logged(f"stranger-{request_id}")
        assert line["client"] == line["peer"] not in {here, ALLOWED, LET_THROUGH}
