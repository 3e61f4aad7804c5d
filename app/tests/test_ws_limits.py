"""Limits of sockets: counted over all workers and containers, given back on every way out, and absent unless enabled."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx2
import pytest
from redis import Redis
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from seawall_service.main import create_app
from seawall_service.realtime.limits import SocketCounts, SocketLimits
from seawall_service.realtime.socket import TOO_SLOW, Ending, Socket
from seawall_service.realtime.valkey import build_client
from seawall_service.startup_gate import load_settings
from tests.conftest import EDGE
from tests.live_client import Live, connect, watching
from tests.running_server import RunningServer
from tests.test_live import PING, Servers, append, errors_of, new_document, refusal, started

LIMITS = {
    "WS_LIMITS_ENABLED": "true",
    "WS_MAX_SOCKETS_PER_USER": "3",
    "WS_MAX_SOCKETS_GLOBAL": "8",
    "WS_SEND_QUEUE": "2",
    "WS_ALLOWED_ORIGINS": "https://example.org",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One knows the limit of a room by its name, the other one by the name's alias."""
    names = ("WS_MAX_SOCKETS_PER_ROOM", "WS_MAX_SOCKETS_PER_DRAFT")
    first, second = (started(tmp_path_factory, **LIMITS, **{name: "5"}) for name in names)
    pair = first, second
    try:
        for server in pair:
            server.until_answering("/readyz", seconds=60)
        yield pair
    finally:
        for server in pair:
            server.kill()


@pytest.fixture(scope="module")
def valkey() -> Iterator[Redis]:
    password = Path(os.environ["REDIS_PASSWORD_FILE"]).read_text(encoding="utf-8").strip()
    with Redis.from_url(os.environ["REDIS_URL"], password=password, decode_responses=True) as client:
        yield client


def counted(valkey: Redis) -> dict[str, int]:
    """Of all workers together, as the limits see it."""
    sums: dict[str, int] = {}
    for key in valkey.scan_iter("ws:counts:*"):
        for name, count in valkey.hgetall(key).items():
            sums[str(name)] = sums.get(str(name), 0) + int(count)
    return {name: count for name, count in sums.items() if count}


def until_counted(valkey: Redis, expected: dict[str, int], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while (found := counted(valkey)) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == expected


@pytest.fixture(autouse=True)
def nobody_is_left(valkey: Redis) -> Iterator[None]:
    until_counted(valkey, {})
    yield
    until_counted(valkey, {})


def user() -> dict[str, str]:
    return {"X-Principal-Id": str(uuid4())}


def members(server: RunningServer, document: str, owner: dict[str, str], count: int) -> list[dict[str, str]]:
    added = [user() for _ in range(count)]
    for member in added:
        body = {"user_id": member["X-Principal-Id"], "role": "viewer"}
        assert server.post(f"{document}/members", body, owner).status == 201
    return added


def open_all(stack: ExitStack, servers: Servers, asked: Sequence[tuple[str, dict[str, str]]]) -> list[Live]:
    """One after the other, by turns on both servers."""
    sockets = []
    for number, (document, who) in enumerate(asked):
        live = connect(servers[number % 2], f"{document}/live", who)
        stack.callback(live.close)
        sockets.append(live)
    return sockets


def told(live: Live) -> str:
    first = live.receive()
    if first["type"] == "ready":
        return "ready"
    said, code = live.until_closed()
    assert (said, code) == ([], 1008)
    return str(first["code"])


@pytest.mark.requirement("WS-01", "WS-02", "WS-05", "C20", "ERR-11")
@pytest.mark.parametrize("limit", ["user", "room", "all"])
def test_one_more_than_the_limit_is_refused(servers: Servers, headers: dict[str, str], valkey: Redis, limit: str) -> None:
    document = new_document(servers[0], headers)
    others = members(servers[0], document, headers, 5)
    if limit == "user":
        allowed = [(document, headers)] * 3
        one_more = (new_document(servers[0], headers), headers)
    elif limit == "room":
        allowed = [(document, member) for member in others]
        one_more = (document, headers)
    else:
        allowed = [(new_document(servers[0], who), who) for who in (user() for _ in range(8))]
        one_more = (document, headers)
    with ExitStack() as stack:
        sockets = open_all(stack, servers, allowed)
        assert [told(live) for live in sockets] == ["ready"] * len(allowed)
        for server in servers * 2:
            live = connect(server, f"{one_more[0]}/live", one_more[1])
            stack.callback(live.close)
            assert told(live) == "ws_limit"
        assert counted(valkey)["all"] == len(allowed)
        sockets[0].close()
        deadline = time.monotonic() + 60
        while True:
            live = connect(servers[1], f"{one_more[0]}/live", one_more[1])
            stack.callback(live.close)
            if told(live) == "ready":
                break
            assert time.monotonic() < deadline


@pytest.mark.requirement("WS-02", "C24", "ERR-11")
def test_messages_have_a_size(servers: Servers, headers: dict[str, str]) -> None:
    document = new_document(servers[0], headers)
    with watching(servers[0], document, headers) as live:
        live.connection.send(PING.ljust(4096))
        assert live.receive() == {"type": "pong"}
        live.connection.send(PING.ljust(4097))
        said, code = live.until_closed()
        assert ([item["code"] for item in said], code) == (["payload_too_large"], 1008)
    # Bytes, of which these characters have two.
    for characters, told_code in ((2048, "bad_request"), (2049, "payload_too_large")):
        with watching(servers[0], document, headers) as live:
            live.connection.send("é" * characters)
            assert [item["code"] for item in live.until_closed()[0]] == [told_code]
    with watching(servers[0], document, headers) as live:
        live.connection.send(PING.ljust(70_000))
        assert live.until_closed() == ([], 1009)


@pytest.mark.requirement("WS-03")
def test_origins_are_judged_before_the_upgrade(servers: Servers, headers: dict[str, str]) -> None:
    path = f"{new_document(servers[0], headers)}/live"
    for origin in ("https://evil.example", "https://example.org.evil.example", "http://example.org", "null"):
        status, error, request_id = refusal(partial(connect, servers[0], path, headers, origin=origin))
        assert (status, error["code"], error["request_id"]) == (403, "forbidden", request_id)
    for allowed in ("https://example.org", "HTTPS://EXAMPLE.ORG", None):
        live = connect(servers[0], path, headers, origin=allowed)
        assert told(live) == "ready"
        live.close()


@pytest.mark.requirement("WS-03")
@pytest.mark.parametrize("allowed_first", [True, False])
def test_of_several_origins_each_is_judged(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, allowed_first: bool
) -> None:
    """Our server refuses two by itself; another one would hand them in."""
    monkeypatch.setenv("WS_ALLOWED_ORIGINS", "https://example.org")
    origins = sorted(["https://example.org", "https://evil.example"], reverse=allowed_first)
    with TestClient(create_app(load_settings("api")), client=EDGE) as client:
        document = client.post("/api/v1/documents", json={"title": "t"}, headers=headers).json()["id"]
        sent = httpx2.Headers([*headers.items(), *(("Origin", origin) for origin in origins)])
        path = f"/api/v1/documents/{document}/live"
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path, headers=sent):
            pass
    assert denied.value.status_code == 403


async def outcomes(texts: Sequence[str]) -> list[Ending | None]:
    """How a socket whose queue takes two messages has ended, after each that it is to say while nobody reads."""
    socket = Socket(cast(WebSocket, None), uuid4(), uuid4(), 0, queue_size=2)
    found = []
    for text in texts:
        socket.say(text)
        found.append(socket.ended.result() if socket.ended.done() else None)
    return found


@pytest.mark.requirement("WS-05")
def test_so_many_messages_wait_and_no_more() -> None:
    assert asyncio.run(outcomes("abc")) == [None, None, TOO_SLOW]


@pytest.mark.requirement("WS-05")
def test_a_slow_socket_is_closed_and_nobody_waits_for_it(servers: Servers, headers: dict[str, str], valkey: Redis) -> None:
    document = new_document(servers[0], headers)
    slow = connect(servers[0], f"{document}/live", headers, reads=False)
    try:
        assert slow.receive()["type"] == "ready"
        with watching(servers[0], document, headers) as quick:
            for number in range(1, 31):
                append(servers[0], document, headers, "x" * 100_000)
                assert quick.entries(1)[0]["entry"]["position"] == number
                if counted(valkey)["all"] == 1:
                    break
            until_counted(valkey, {"all": 1, f"user:{headers['X-Principal-Id']}": 1, f"room:{document.rsplit('/', 1)[1]}": 1})
        said, code = slow.until_closed()
        numbers = [item["entry"]["position"] for item in said if item["type"] == "entry"]
        assert numbers == list(range(1, len(numbers) + 1))
        assert code in {1013, None}
    finally:
        slow.close()
    ended = [line for line in servers[0].log_lines if line["event"] == "websocket.ended" and line["close_code"] == 1013]
    assert ended


def outpaced(server: RunningServer, document: str, headers: dict[str, str]) -> bool:
    """Whether a socket is closed that reads on, so that no single message waits for long, but less than is written."""
    slow = connect(server, f"{document}/live", headers, reads=False)
    try:
        request_id = slow.receive()["request_id"]
        for _ in range(12):
            for _ in range(4):
                append(server, document, headers, "x" * 100_000)
            ended = [line for line in server.log_lines if line["event"] == "websocket.ended" and line["request_id"] == request_id]
            if ended:
                return [line["close_code"] for line in ended] == [1013]
            slow.receive()
        return False
    finally:
        slow.close()


def outpaced_once(server: RunningServer, headers: dict[str, str]) -> bool:
    """On a busy machine many entries come at once, and the socket reads them at its own pace: then once more."""
    return any(outpaced(server, new_document(server, headers), headers) for _ in range(5))


@pytest.mark.requirement("WS-05")
def test_a_socket_that_reads_less_than_is_written_is_closed(servers: Servers, headers: dict[str, str]) -> None:
    assert outpaced_once(servers[0], headers)


@pytest.mark.requirement("WS-05")
def test_what_waits_for_a_slow_socket_is_counted_in_bytes_too(
    tmp_path_factory: pytest.TempPathFactory, headers: dict[str, str]
) -> None:
    """Of entries as large as they may be, far fewer may wait than the 64 messages that the queue has room for."""
    server = started(tmp_path_factory, WS_SEND_QUEUE="64")
    try:
        server.until_answering("/readyz", seconds=60)
        assert outpaced_once(server, headers)
    finally:
        server.kill()


@pytest.mark.requirement("WS-05")
def test_a_burst_makes_nobody_slow(servers: Servers, headers: dict[str, str]) -> None:
    """Many more at once than the queue holds, for a socket that reads."""
    document = new_document(servers[0], headers)
    with watching(servers[0], document, headers) as live, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: append(servers[number % 2], document, headers), range(40)))
        assert [message["entry"]["position"] for message in live.entries(40)] == list(range(1, 41))


@pytest.mark.requirement("WS-05")
def test_counts_fall_on_every_way_out(servers: Servers, valkey: Redis) -> None:
    chance = random.Random(4)
    owners = [user() for _ in range(4)]
    documents = [new_document(servers[0], owner) for owner in owners]
    for _ in range(24):
        number = chance.randrange(4)
        server = chance.choice(servers)
        way = chance.choice(["close", "cut", "cut at once", "junk", "too large", "vanish"])
        live = connect(server, f"{documents[number]}/live?after=0", owners[number])
        if way != "cut at once":
            live.receive()
        if way in {"cut", "cut at once"}:
            live.connection.socket.close()
        elif way in {"junk", "too large"}:
            live.connection.send("junk" if way == "junk" else "x" * 5000)
            live.until_closed()
        elif way == "vanish":
            append(server, documents[number], owners[number])
            live.connection.socket.shutdown(2)
        live.close()
    until_counted(valkey, {})
    assert [line for server in servers for line in errors_of(server)] == []


@asynccontextmanager
async def counting(total: int, lease_seconds: float, *, url: bool = True) -> AsyncIterator[SocketCounts]:
    settings = load_settings("command")
    limits = SocketLimits(enabled=True, per_user=100, per_room=100, total=total, workers=2)
    client = build_client(settings) if url else None
    counts = SocketCounts(limits, client, lease_seconds)
    try:
        yield counts
    finally:
        await counts.close()
        if client is not None:
            await client.aclose()


@pytest.mark.requirement("WS-05", "C20")
def test_a_lease_lasts_as_long_as_its_sockets(valkey: Redis) -> None:
    """Although nobody comes or goes."""

    async def scenario() -> list[str | None]:
        async with counting(1, 6) as holder, counting(1, 60) as other:
            entered = [await holder.enter(uuid4(), uuid4())]
            left = [valkey.pttl(f"ws:counts:{holder.worker_id}")]
            # Until it has been renewed; -2 is a lease that is over.
            while left[-1] > 0 and left[-1] <= min(left):
                await asyncio.sleep(0.1)
                left.append(valkey.pttl(f"ws:counts:{holder.worker_id}"))
            return [*entered, await other.enter(uuid4(), uuid4())]

    assert asyncio.run(scenario()) == [None, "all"]


def test_the_counts_of_a_killed_worker_go_with_its_lease() -> None:
    async def scenario() -> list[str | None]:
        async with counting(1, 60) as survivor:
            client = build_client(load_settings("command"))
            assert client is not None
            killed = SocketCounts(survivor.limits, client, lease_seconds=1.5)
            entered = [await killed.enter(uuid4(), uuid4())]
            # No heartbeat any more, and no last word.
            assert killed.keeper is not None
            killed.keeper.cancel()
            await client.aclose()
            entered.append(await survivor.enter(uuid4(), uuid4()))
            answer: str | None = "all"
            for _ in range(150):
                answer = await survivor.enter(uuid4(), uuid4())
                if answer is None:
                    break
                await asyncio.sleep(0.1)
            return [*entered, answer]

    assert asyncio.run(scenario()) == [None, "all", None]


def test_without_valkey_each_worker_has_its_share() -> None:
    async def scenario() -> list[str | None]:
        async with counting(5, 15, url=False) as counts:
            answers = [await counts.enter(uuid4(), uuid4()) for _ in range(3)]
            who, where = uuid4(), uuid4()
            counts.limits = SocketLimits(enabled=True, per_user=1, per_room=3, total=100, workers=4)
            answers += [await counts.enter(who, where), await counts.enter(who, uuid4()), await counts.enter(uuid4(), where)]
            counts.leave(who, where)
            return [*answers, await counts.enter(who, where)]

    found = asyncio.run(scenario())
    assert [answer.partition(":")[0] if answer else None for answer in found] == [None, None, "all", None, "user", "room", None]


@pytest.mark.requirement("WS-06", "ERR-11")
def test_sockets_and_messages_pass_the_limiter(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PER_MINUTE_DEFAULT": "2", "RATE_LIMIT_BURST_DEFAULT": "2"}
    # To connect counts as a write, which may come half as often; without a server the one worker counts in memory.
    for name, value in (limits | {"REDIS_URL": "", "WEB_CONCURRENCY": "1"}).items():
        monkeypatch.setenv(name, value)
    sent = headers | {"X-Forwarded-For": "203.0.113.9"}
    with TestClient(create_app(load_settings("api")), client=EDGE) as client:
        document = client.post("/api/v1/documents", json={"title": "t"}, headers=headers).json()["id"]
        path = f"/api/v1/documents/{document}/live"
        with client.websocket_connect(path, headers=sent) as socket:
            assert socket.receive_json()["type"] == "ready"
            answers: list[dict[str, Any]] = []
            for _ in range(3):
                socket.send_text(PING)
                answers.append(socket.receive_json())
            assert [answer.get("code", answer["type"]) for answer in answers] == ["pong", "pong", "rate_limited"]
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
            assert closed.value.code == 1008
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path, headers=sent):
            pass
    assert denied.value.status_code == 429
    assert 30 < int(denied.value.headers["Retry-After"]) <= 60
    assert denied.value.json()["error"]["code"] == "rate_limited"
