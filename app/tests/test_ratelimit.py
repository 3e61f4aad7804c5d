"""Limits of requests: what they count, whom they count, what they say, and what becomes of them without their server."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import jwt
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from seawall_service.extensions import Extensions
from seawall_service.main import create_app, create_auth_app
from seawall_service.rate_limit.client import UNKNOWN, address_key
from seawall_service.rate_limit.degrading import DegradingRateLimiter, share_of
from seawall_service.rate_limit.interface import Decision, FixedWindow, Hit, RateLimiter, TokenBucket
from seawall_service.rate_limit.line import Line
from seawall_service.rate_limit.memory_backend import MemoryRateLimiter
from seawall_service.rate_limit.policies import RateLimitPolicies
from seawall_service.rate_limit.redis_backend import RedisRateLimiter
from seawall_service.startup_gate import load_settings
from tests.conftest import EDGE, Boot
from tests.running_server import RunningServer
from tests.tcp_proxy import Proxy
from tests.test_auth import login

SECOND = 1_000_000
NOON = 1_800_000_000 * SECOND
HEADERS = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}

type Limited = Callable[..., AbstractContextManager[TestClient]]


class FrozenClock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


class Recorder:
    """A backend of somebody else's: the protocol, and nothing of ours."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.keys: list[str] = []

    async def hit(self, hits: Sequence[Hit]) -> Decision:
        self.keys += [hit.key for hit in hits]
        return self.decision

    async def close(self) -> None:
        self.keys.append("closed")


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, clock: FrozenClock) -> Limited:
    """An application whose limits count in memory, by a clock that stands still."""

    @contextmanager
    def start(
        backend: RateLimiter | None = None, peer: tuple[str, int] = EDGE, *, auth: bool = False, **environment: str
    ) -> Iterator[TestClient]:
        for name, value in {"RATE_LIMIT_ENABLED": "true", **environment}.items():
            monkeypatch.setenv(name, value)
        limiter = backend or MemoryRateLimiter(clock)
        extensions = Extensions(build_rate_limiter=lambda *_: limiter)
        app = create_auth_app(load_settings("auth"), extensions) if auth else create_app(load_settings("api"), extensions)
        with TestClient(app, client=peer) as client:
            yield client

    return start


def statuses(client: TestClient, count: int, path: str = "/api/v1/documents", **headers: str) -> list[int]:
    return [client.get(path, headers=headers).status_code for _ in range(count)]


@pytest.mark.requirement("RL-01")
def test_off_by_default(api: TestClient) -> None:
    assert statuses(api, 70) == [200] * 70
    assert HEADERS.isdisjoint(api.get("/api/v1/documents").headers)


@pytest.mark.requirement("RL-02", "RL-06", "RL-07", "ERR-11")
def test_the_61st_in_a_minute_is_refused(limited: Limited, clock: FrozenClock) -> None:
    with limited(RATE_LIMIT_BURST_DEFAULT="1000") as client:
        for left in range(59, -1, -1):
            answer = client.get("/api/v1/documents")
            assert answer.status_code == 200
            shown = [answer.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")]
            assert shown == ["60", str(left), str(NOON // SECOND + 60)]
            clock.advance(0.5)
        refused = client.get("/api/v1/documents", headers={"X-Request-ID": "the-61st"})
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        assert refused.json() == {
            "error": {"code": "rate_limited", "message": "Too many requests", "request_id": "the-61st", "details": None}
        }
        clock.advance(29.9)
        late = client.get("/api/v1/documents")
        assert (late.status_code, late.headers["Retry-After"]) == (429, "1")
        clock.advance(0.1)
        assert client.get("/api/v1/documents").status_code == 200


@pytest.mark.requirement("RL-03")
def test_the_31st_at_once_is_refused_and_every_half_second_brings_another(limited: Limited, clock: FrozenClock) -> None:
    with limited(RATE_LIMIT_REQUESTS="1000") as client:
        assert statuses(client, 31) == [200] * 30 + [429]
        # Of this route alone: another one has a bucket of its own.
        assert statuses(client, 1, "/api/v1/users/me") == [404]
        clock.advance(0.499)
        assert statuses(client, 1) == [429]
        clock.advance(0.001)
        assert statuses(client, 2) == [200, 429]
        clock.advance(3600)
        assert statuses(client, 31) == [200] * 30 + [429]


@pytest.mark.requirement("RL-06", "C11")
def test_of_both_rules_the_tightest_speaks(limited: Limited, clock: FrozenClock) -> None:
    environment = {"RATE_LIMIT_REQUESTS": "4", "RATE_LIMIT_PER_MINUTE_DEFAULT": "60", "RATE_LIMIT_BURST_DEFAULT": "3"}
    with limited(**environment) as client:

        def ask() -> list[str]:
            headers = client.get("/api/v1/documents").headers
            return [headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining")]

        assert [ask(), ask()] == [["3", "2"], ["3", "1"]]
        clock.advance(10)
        assert [ask(), ask(), ask()] == [["4", "1"], ["4", "0"], ["4", "0"]]


@pytest.mark.requirement("RL-06", "C11")
@pytest.mark.parametrize(("window", "per_minute", "wait"), [("10", "1", "60"), ("600", "60", "600")])
def test_of_two_refusals_the_longest_wait_speaks(limited: Limited, window: str, per_minute: str, wait: str) -> None:
    limits = {"RATE_LIMIT_REQUESTS": "2", "RATE_LIMIT_BURST_DEFAULT": "2"}
    with limited(RATE_LIMIT_WINDOW_SECONDS=window, RATE_LIMIT_PER_MINUTE_DEFAULT=per_minute, **limits) as client:
        assert statuses(client, 2) == [200] * 2
        refused = client.get("/api/v1/documents")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, wait)


@pytest.mark.requirement("RL-03")
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_whatever_changes_nothing_is_a_read(limited: Limited, method: str) -> None:
    with limited(RATE_LIMIT_REQUESTS="1000") as client:
        answers = [client.request(method, "/api/v1/documents").status_code for _ in range(30)]
        assert 429 not in answers
        assert statuses(client, 1) == [429]
        assert client.post("/api/v1/documents", json={"title": "t"}).status_code == 201


@pytest.mark.requirement("RL-03", "RL-09")
def test_writes_are_stricter_than_reads(limited: Limited) -> None:
    with limited(RATE_LIMIT_REQUESTS="1000") as client:
        written = [client.post("/api/v1/documents", json={"title": "t"}).status_code for _ in range(16)]
        assert written == [201] * 15 + [429]
        assert statuses(client, 30) == [200] * 30


@pytest.mark.requirement("RL-03")
def test_a_route_is_one_whatever_its_ids_and_unknown_paths_and_methods_are_one_together(limited: Limited) -> None:
    with limited(RATE_LIMIT_REQUESTS="1000") as client:
        found = [client.get(f"/api/v1/documents/{uuid4()}").status_code for _ in range(31)]
        assert found == [404] * 30 + [429]
        lost = [client.get(f"/api/v1/{uuid4()}").status_code for _ in range(31)]
        assert lost == [404] * 30 + [429]
        brewed = [client.request(f"BREW{number}", "/api/v1/documents").status_code for number in range(16)]
        assert brewed == [405] * 15 + [429]


@pytest.mark.requirement("RL-09")
def test_signing_in_is_limited_most_strictly_and_by_address_whatever_token_is_sent(
    limited: Limited, auth: TestClient, username: str
) -> None:
    token = login(auth, username)["access_token"]
    with limited(auth=True, RATE_LIMIT_KEY_STRATEGY="user_or_ip") as client:
        headers = [{}, {"Authorization": f"Bearer {token}"}] * 3
        answers = [client.post("/api/auth/login", json={}, headers=sent).status_code for sent in headers]
        assert answers == [422] * 5 + [429]
        assert client.post("/api/auth/refresh", json={}).status_code == 422


@pytest.mark.requirement("RL-05")
@pytest.mark.parametrize("component", ["api", "auth"])
def test_probes_and_documentation_are_never_limited(limited: Limited, component: str) -> None:
    exempt = ["/health", "/healthz", "/readyz", "/api/v1/health/live", "/api/v1/health/ready", "/metrics", "/docs"]
    environment = {"METRICS_ENABLED": "true", "WEB_CONCURRENCY": "1", "RATE_LIMIT_REQUESTS": "1"}
    with limited(auth=component == "auth", **environment) as client:
        for path in [*exempt, "/openapi.json", "/internal/verify"]:
            for _ in range(3):
                answer = client.get(path)
                assert answer.status_code != 429, path
                assert HEADERS.isdisjoint(answer.headers), path


@pytest.mark.requirement("RL-06")
@pytest.mark.parametrize(
    ("method", "path", "body", "principal", "status"),
    [
        ("GET", "/api/v1/documents", None, None, 200),
        ("POST", "/api/v1/documents", {"title": "t"}, None, 201),
        ("POST", "/api/v1/documents", {}, None, 422),
        ("GET", "/api/v1/documents", None, "nobody", 401),
        ("GET", "/api/v1/nowhere", None, None, 404),
        ("DELETE", "/api/v1/documents", None, None, 405),
    ],
)
def test_every_counted_answer_has_the_headers(
    limited: Limited, method: str, path: str, body: object, principal: str | None, status: int
) -> None:
    with limited() as client:
        headers = {"X-Principal-Id": principal} if principal else {}
        answer = client.request(method, path, json=body, headers=headers)
        assert answer.status_code == status
        assert set(answer.headers) >= HEADERS
        assert "retry-after" not in answer.headers


@pytest.mark.requirement("RL-06")
def test_a_page_of_another_origin_may_read_them(limited: Limited) -> None:
    with limited(CORS_ORIGINS="https://example.org", RATE_LIMIT_REQUESTS="1") as client:
        for status in (200, 429):
            answer = client.get("/api/v1/documents", headers={"Origin": "https://example.org"})
            assert answer.status_code == status
            assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"
            exposed = answer.headers["Access-Control-Expose-Headers"].lower()
            assert {*HEADERS, "retry-after", "x-request-id"} <= {name.strip() for name in exposed.split(",")}


@pytest.mark.requirement("RL-04", "SEC-10", "C3", "C4")
def test_a_stranger_is_its_address_whatever_it_says_of_itself(limited: Limited) -> None:
    environment = {"RATE_LIMIT_REQUESTS": "5", "RATE_LIMIT_KEY_STRATEGY": "user_or_ip"}
    with limited(peer=("203.0.113.9", 1), **environment) as client:
        for number in range(6):
            token = jwt.encode({"sub": str(uuid4())}, "guessed" * 8, algorithm="HS256")
            said = {
                "X-Forwarded-For": f"198.51.100.{number}",
                "X-Principal-Id": str(uuid4()),
                "Authorization": f"Bearer {token}",
            }
            assert (client.get("/api/v1/nowhere", headers=said).status_code == 429) is (number == 5)


@pytest.mark.requirement("RL-04")
@pytest.mark.parametrize("strategy", ["ip", "user_or_ip"])
def test_behind_the_edge_the_strategy_chooses(limited: Limited, strategy: str) -> None:
    with limited(RATE_LIMIT_REQUESTS="1", RATE_LIMIT_KEY_STRATEGY=strategy) as client:

        def ask(address: str, user: str | None = None) -> int:
            headers = {"X-Forwarded-For": address} | ({"X-Principal-Id": user} if user else {})
            return client.get("/api/v1/documents", headers=headers).status_code

        one, other = str(uuid4()), str(uuid4())
        assert ask("198.51.100.1", one) == 200
        assert ask("198.51.100.2", one) == (429 if strategy == "user_or_ip" else 200)
        assert ask("198.51.100.1", other) == (200 if strategy == "user_or_ip" else 429)
        # Not even two identities at once are a new one, nor is one in another spelling.
        assert ask("198.51.100.3") == 200
        assert ask("198.51.100.3", "{" + str(uuid4()) + "}") == 429


@pytest.mark.requirement("RL-04", "C4")
def test_the_gateway_believes_tokens_that_it_can_check(limited: Limited, auth: TestClient, username: str) -> None:
    tokens = [login(auth, username)["access_token"] for _ in range(2)]
    environment = {"RATE_LIMIT_REQUESTS": "2", "RATE_LIMIT_KEY_STRATEGY": "user_or_ip", "RATE_LIMIT_BURST_DEFAULT": "600"}
    with limited(auth=True, **environment) as client:

        def ask(token: str) -> int:
            return client.post("/api/auth/refresh", json={}, headers={"Authorization": f"Bearer {token}"}).status_code

        assert [ask(token) for token in (*tokens, tokens[0])] == [422, 422, 429]
        forged = [jwt.encode({"sub": str(uuid4()), "iss": "seawall"}, "guessed" * 8, algorithm="HS256") for _ in range(3)]
        assert [ask(token) for token in forged] == [422, 422, 429]


@pytest.mark.requirement("RL-04", "SEC-10")
def test_what_is_no_address_is_one_client() -> None:
    nonsense = [None, "", "unknown", "198.51.100.1:80", "a" * 10_000, "198.51.100.256", "fe80::1%eth0/64"]
    assert {address_key(text) for text in nonsense} == {UNKNOWN}
    assert address_key("2001:db8:1:2::1") == address_key("2001:db8:1:2:ffff::9") != address_key("2001:db8:1:3::1")
    assert address_key("::ffff:198.51.100.1") == address_key("198.51.100.1")


@pytest.mark.requirement("RL-04", "SEC-09")
def test_no_token_is_in_a_key_or_a_line(limited: Limited, auth: TestClient, username: str) -> None:
    token = login(auth, username)["access_token"]
    recorder = Recorder(Decision(allowed=False, limit=1, remaining=0, reset_at=1, retry_after_seconds=1))
    with (
        limited(recorder, auth=True, RATE_LIMIT_KEY_STRATEGY="user_or_ip") as client,
        structlog.testing.capture_logs() as lines,
    ):
        client.post("/api/auth/refresh", json={}, headers={"Authorization": f"Bearer {token}"})
    rejected = [line for line in lines if line["event"] == "rate_limit.rejected"]
    assert len(rejected) == 1
    written = json.dumps(lines, default=str) + "".join(recorder.keys)
    assert "user:" in written
    assert not any(part in written for part in token.split("."))


@pytest.mark.requirement("RL-08", "CODE-02")
def test_another_backend_can_be_put_in(limited: Limited) -> None:
    recorder = Recorder(Decision(allowed=True, limit=7, remaining=5, reset_at=99, retry_after_seconds=0))
    with limited(recorder) as client:
        answer = client.get("/api/v1/documents/me")
        assert [answer.headers[name] for name in sorted(HEADERS)] == ["7", "5", "99"]
    assert recorder.keys == ["ip:127.0.0.1:api", "ip:127.0.0.1:read:/api/v1/documents/{document_id}", "closed"]


@pytest.mark.requirement("WS-06")
def test_sockets_are_counted_by_user_and_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT_REQUESTS", "60")
    policies = RateLimitPolicies(load_settings("api"))
    user = UUID(int=7)
    connect = policies.socket_hits(user, "198.51.100.1", "connect")
    assert [(hit.key, hit.rule) for hit in connect] == [
        ("ip:198.51.100.1:ws:connect", TokenBucket(240, 60)),
        (f"user:{user}:ws:connect", TokenBucket(60, 15)),
    ]
    assert [hit.rule for hit in policies.socket_hits(None, None, "message")] == [TokenBucket(480, 120)]


@pytest.mark.requirement("WS-06", "RL-04")
def test_sockets_of_one_address_share_its_limit_and_others_have_theirs(api: TestClient, limited: Limited) -> None:
    with limited(RATE_LIMIT_BURST_DEFAULT="2") as client:

        def connect(address: str) -> int:
            headers = {"X-Principal-Id": str(uuid4()), "X-Forwarded-For": address}
            document = api.post("/api/v1/documents", json={"title": "t"}, headers=headers).json()["id"]
            try:
                with client.websocket_connect(f"/api/v1/documents/{document}/live", headers=headers) as socket:
                    socket.send_text("the end")
                    assert [socket.receive_json()["type"] for _ in range(2)] == ["ready", "error"]
                    with pytest.raises(WebSocketDisconnect):
                        socket.receive_json()
            except WebSocketDenialResponse as denied:
                return denied.status_code
            return 101

        assert [connect("198.51.100.1") for _ in range(5)] == [101] * 4 + [429]
        assert connect("198.51.100.2") == 101


LIVE = f"/api/v1/documents/{UUID(int=7)}/live"
NAMED = {"X-Principal-Id": str(UUID(int=7))}


@pytest.mark.requirement("WS-06", "WS-03", "SEC-04")
@pytest.mark.parametrize(
    ("path", "headers", "status", "counted"),
    [
        (LIVE, NAMED | {"Origin": "https://evil.example"}, 403, "by user"),
        (LIVE, {"Origin": "https://evil.example"}, 403, "by address"),
        (LIVE, {}, 401, "by address"),
        (LIVE, {"X-Principal-Id": "nobody"}, 401, "by address"),
        (f"{LIVE}?after=-1", NAMED, 422, "by user"),
        (LIVE, NAMED, 404, "by user"),
        ("/api/v1/nowhere", NAMED, 404, "by user"),
    ],
)
def test_an_upgrade_counts_whatever_it_is_refused_for(
    limited: Limited, path: str, headers: dict[str, str], status: int, counted: str
) -> None:
    environment = {"WS_ALLOWED_ORIGINS": "https://example.org", "REQUIRE_AUTHENTICATED_PRINCIPAL": "true"}
    with limited(RATE_LIMIT_BURST_DEFAULT="2", **environment) as client:

        def refusal() -> WebSocketDenialResponse:
            with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path, headers=headers):
                pass
            return denied.value

        answers = [refusal() for _ in range(6)]
        passed = 1 if counted == "by user" else 4
        assert [answer.status_code for answer in answers] == [status] * passed + [429] * (6 - passed)
        last = answers[-1]
        error = last.json()["error"]
        assert (error["code"], error["request_id"]) == ("rate_limited", last.headers["X-Request-ID"])
        assert int(last.headers["Retry-After"]) > 0
        assert set(last.headers) >= HEADERS


def patient_line() -> Line:
    """Without the service's short timeout: what is asked of it is what it counts, not how soon."""
    return Line(load_settings("api"), answer_seconds=30)


def patient_client() -> Redis:
    return Redis.from_url(
        os.environ["REDIS_URL"], password=Path(os.environ["REDIS_PASSWORD_FILE"]).read_text(encoding="utf-8").strip()
    )


RULES = (FixedWindow(5, 10), TokenBucket(60, 4), TokenBucket(7, 3))
STEPS = st.tuples(
    st.sampled_from([0, 1, SECOND // 3, SECOND, 4 * SECOND + 1, 10 * SECOND, 3600 * SECOND, -SECOND, -3600 * SECOND]),
    st.sets(st.sampled_from(range(len(RULES))), min_size=1),
)


@pytest.mark.requirement("RL-08", "C11")
def test_both_backends_decide_alike() -> None:
    shared_line = patient_line()
    with asyncio.Runner() as runner:

        @settings(derandomize=True, database=None, deadline=None, max_examples=60)
        @given(st.lists(STEPS, min_size=1, max_size=25))
        def alike(steps: list[tuple[int, set[int]]]) -> None:
            clock = FrozenClock()
            memory = MemoryRateLimiter(clock)
            shared = RedisRateLimiter(shared_line, f"test:{uuid4()}:", clock)
            for pause, chosen in steps:
                clock.now += pause
                hits = [Hit(str(number), RULES[number]) for number in sorted(chosen)]
                assert runner.run(memory.hit(hits)) == runner.run(shared.hit(hits))

        try:
            alike()
        finally:
            shared_line.close()


@pytest.mark.requirement("RL-02")
def test_the_servers_clock_counts_and_what_is_over_is_forgotten_there() -> None:
    async def observe() -> tuple[Decision, Decision, list[int]]:
        client = patient_client()
        prefix = f"test:{uuid4()}:"
        limiter = RedisRateLimiter(patient_line(), prefix)
        hits = [Hit("window", FixedWindow(1, 600)), Hit("bucket", TokenBucket(60, 5))]
        try:
            first, second = await limiter.hit(hits), await limiter.hit(hits)
            return first, second, [await client.pttl(prefix + hit.key) for hit in hits]
        finally:
            await limiter.close()
            await client.aclose()

    first, second, lives = asyncio.run(observe())
    assert (first.allowed, second.allowed, second.limit) == (True, False, 1)
    assert abs(first.reset_at - time.time() - 600) < 60
    assert 540_000 < lives[0] <= 600_000
    assert lives[1] <= 1_000


@pytest.mark.requirement("RL-08")
def test_memory_is_bounded(clock: FrozenClock) -> None:
    async def fill() -> list[bool]:
        limiter = MemoryRateLimiter(clock, max_keys=3)
        once = FixedWindow(1, 60)
        return [(await limiter.hit([Hit(key, once)])).allowed for key in ("a", "b", "c", "a", "d", "a", "b")]

    # "b" was used longest ago when "d" came.
    assert asyncio.run(fill()) == [True, True, True, False, True, False, True]


class Away(Recorder):
    async def hit(self, hits: Sequence[Hit]) -> Decision:
        self.keys += [hit.key for hit in hits]
        raise ConnectionError("away")


@pytest.mark.requirement("RL-11")
@pytest.mark.parametrize(("pause", "asked"), [(3600.0, 1), (0.0, 4)])
def test_a_server_that_is_away_is_asked_now_and_then(clock: FrozenClock, pause: float, asked: int) -> None:
    away = Away(Decision(allowed=True, limit=0, remaining=0, reset_at=0, retry_after_seconds=0))
    told: list[int] = []

    async def ask() -> list[bool]:
        limiter = DegradingRateLimiter(away, MemoryRateLimiter(clock), workers=2, pause_seconds=pause, report=told.append)
        return [(await limiter.hit([Hit("k", FixedWindow(6, 60))])).allowed for _ in range(4)]

    with structlog.testing.capture_logs() as lines:
        assert asyncio.run(ask()) == [True, True, True, False]
    assert len(away.keys) == asked
    assert told == [0, 1]
    assert [line["event"] for line in lines] == ["rate_limit.degraded"]


@pytest.mark.requirement("RL-11", "C10")
def test_without_its_server_a_worker_counts_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "REDIS_URL": "redis://seawall@127.0.0.1:9/0",
        "WEB_CONCURRENCY": "4",
        "RATE_LIMIT_ENABLED": "true",
        "RATE_LIMIT_REQUESTS": "40",
        "RATE_LIMIT_WINDOW_SECONDS": "86400",
        "RATE_LIMIT_BURST_DEFAULT": "1000",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with TestClient(create_app(load_settings("api")), client=EDGE) as client:
        assert statuses(client, 11) == [200] * 10 + [429]


@pytest.mark.requirement("RL-02")
def test_keys_begin_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = f"test:{uuid4()}:"
    # A server that was too slow once is asked again at once.
    for name, value in {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PREFIX": prefix, "RATE_LIMIT_DEGRADED_SECONDS": "0"}.items():
        monkeypatch.setenv(name, value)

    async def stored() -> list[bytes]:
        async with patient_client() as client:
            return [key async for key in client.scan_iter(f"{prefix}*")]

    with TestClient(create_app(load_settings("api")), client=EDGE) as client:
        until(lambda: statuses(client, 1) != [] and len(asyncio.run(stored())) > 0)
        assert f"{prefix}ip:127.0.0.1:api".encode() in asyncio.run(stored())


def test_a_share_is_never_nothing() -> None:
    assert share_of(FixedWindow(1, 60), 4) == FixedWindow(1, 60)
    assert share_of(TokenBucket(2, 1), 4) == TokenBucket(1, 1)


def degraded_workers(server: RunningServer) -> float:
    families = text_string_to_metric_families(server.get("/metrics").body.decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == "rate_limit_degraded")


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def allowed_of(servers: Sequence[RunningServer], count: int, address: str) -> int:
    def ask(number: int) -> int:
        return servers[number % len(servers)].get("/api/v1/documents", {"X-Forwarded-For": address}).status

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(count)))
    assert set(answers) <= {200, 429}
    return answers.count(200)


def events_of(servers: Sequence[RunningServer], event: str) -> list[dict[str, Any]]:
    return [line for server in servers for line in server.log_lines if line["event"] == event]


@pytest.mark.requirement("RL-02")
def test_60_of_80_over_two_servers_with_two_workers_each(boot: Boot) -> None:
    environment = {
        "RATE_LIMIT_ENABLED": "true",
        "RATE_LIMIT_WINDOW_SECONDS": "600",
        "RATE_LIMIT_BURST_DEFAULT": "1000",
        "RATE_LIMIT_DEGRADED_SECONDS": "1",
        "RATE_LIMIT_PREFIX": f"test:{uuid4()}:",
    }
    servers = [boot(**environment).start(), boot(**environment).start()]
    for server in servers:
        server.until_answering("/readyz", seconds=60)
    # On a machine so busy that Valkey takes a quarter of a second, workers rightly count for themselves: then once more.
    for attempt in range(10):
        degraded = len(events_of(servers, "rate_limit.degraded"))
        address = f"198.51.100.{attempt}"
        if all(degraded_workers(server) == 0 for server in servers):
            allowed = allowed_of(servers, 80, address)
            if len(events_of(servers, "rate_limit.degraded")) == degraded:
                break
        else:
            servers[attempt % 2].get("/api/v1/documents")
    else:
        pytest.fail("Valkey did not answer in time in any of the attempts")
    assert allowed == 60
    rules = [f"ip:{address}:api", f"ip:{address}:read:/api/v1/documents"]
    for server in servers:
        assert rules in [line["rules"] for line in events_of([server], "rate_limit.rejected")]


def both_in(answers: list[int], part: slice) -> bool:
    return set(answers[part]) == {200, 429}


@pytest.mark.requirement("RL-11", "C10", "C23")
def test_valkey_lost_under_load(boot: Boot) -> None:
    cache = urlsplit(os.environ["REDIS_URL"])
    assert cache.hostname is not None
    with Proxy(cache.hostname, cache.port or 6379) as line:
        server = boot(
            REDIS_URL=f"redis://seawall@127.0.0.1:{line.port}/0",
            RATE_LIMIT_ENABLED="true",
            RATE_LIMIT_REQUESTS="40",
            RATE_LIMIT_WINDOW_SECONDS="600",
            RATE_LIMIT_BURST_DEFAULT="1000",
            RATE_LIMIT_DEGRADED_SECONDS="1",
            RATE_LIMIT_PREFIX=f"test:{uuid4()}:",
            METRICS_ENABLED="true",
        )
        server.start().until_answering("/readyz", seconds=90)
        answers: list[int] = []
        stop = threading.Event()

        def load(number: int) -> None:
            asked = 0
            while not stop.is_set():
                # Every client asks a hundred times, of which less than half may pass, whoever counts.
                address = f"198.51.{number}.{asked // 100 % 250}"
                asked += 1
                answers.append(server.get("/api/v1/documents", {"X-Forwarded-For": address}).status)

        threads = [threading.Thread(target=load, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        try:
            for harm in (line.refuse, line.freeze):
                until(lambda: degraded_workers(server) == 0)
                harm()
                until(lambda: degraded_workers(server) == 2)
                during = slice(len(answers), None)
                until(partial(both_in, answers, during))
                assert server.get("/readyz").status == 200
                line.heal()
            until(lambda: degraded_workers(server) == 0)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
    assert set(answers) == {200, 429}
    events = [line["event"] for line in server.log_lines if line["event"].startswith("rate_limit.")]
    # Two outages, two workers; a busy machine may add some, but never one for each request.
    assert 4 <= events.count("rate_limit.degraded") < 20
    assert events.count("rate_limit.recovered") >= 4
    assert not [line for line in server.log_lines if line["level"] in {"error", "critical"}]


def test_a_gauge_of_a_dead_worker_does_not_stay(boot: Boot) -> None:
    """The successor in its slot begins at 0, and what is not alive is not added up."""
    environment: dict[str, Any] = {"RATE_LIMIT_ENABLED": "true", "REDIS_URL": "redis://seawall@127.0.0.1:9/0"}
    server = boot(WEB_CONCURRENCY="1", RATE_LIMIT_DEGRADED_SECONDS="300", **environment).start().until_answering("/readyz")
    assert server.get("/api/v1/documents").status == 200
    assert degraded_workers(server) == 1
    worker = server.worker_pids()[0]
    os.kill(worker, 9)
    until(lambda: server.worker_pids() not in ([], [worker]))
    server.until_answering("/readyz")
    assert degraded_workers(server) == 0


def test_a_gauge_of_a_worker_without_a_successor_does_not_stay(boot: Boot) -> None:
    environment: dict[str, Any] = {"RATE_LIMIT_ENABLED": "true", "REDIS_URL": "redis://seawall@127.0.0.1:9/0"}
    server = boot(WEB_CONCURRENCY="2", RATE_LIMIT_DEGRADED_SECONDS="300", **environment).start().until_all_started()

    def both_have_asked() -> bool:
        server.get("/api/v1/documents")
        return degraded_workers(server) == 2

    until(both_have_asked)
    os.kill(server.running.pid, signal.SIGTTOU)
    until(lambda: len(server.worker_pids()) == 1)
    # The master sees the end of its child a little later.
    until(lambda: degraded_workers(server) == 1, 20)
