"""Hundreds of requests that attack: nothing reaches the service that should not, and others are served meanwhile."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import hostile_frames
import hostile_requests
import pytest
from conftest import Stack
from edge_answers import CLOSED, CODES, Reply, assert_headers, envelope
from edge_wire import Request, Way, ask_1, ask_2, connected, http2, say
from hostile_frames import FLOODS, PING, Frames
from hostile_requests import ACCEPTED, CLOSE, FOREIGN_ADDRESS, HIDDEN, SMUGGLED, STRANGER, TARGET, Row, request
from installation import ask, containers, docker, in_charge
from test_edge_memory import workers

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.requirement("BEY-15")]

ROWS = hostile_requests.rows()
FRAMES = list(hostile_frames.rows())
AT_ONCE = 8
SLOW_CLIENTS = 3
# Well-formed requests in words of HTTP that the edge does not know.
OF_THE_CLIENTS_MAKING = {501, 505}
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

Line = dict[str, Any]


@dataclass
class Steady:
    """What somebody else sees meanwhile, on a new connection for each request."""

    statuses: Counter[object] = field(default_factory=Counter)
    ending: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ending.wait(0.1):
            try:
                self.statuses[ask("/healthz").status] += 1
            except OSError as error:
                self.statuses[repr(error)] += 1

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self.ending.set()
            thread.join(60)


@dataclass
class Attack:
    """What came of it."""

    user: str
    answers: dict[str, list[Reply]]
    floods: dict[str, str]
    slow: dict[str, bytes]
    steady: Steady
    workers: tuple[set[int], set[int]]
    edge: list[Line] = field(default_factory=list)
    api: list[Line] = field(default_factory=list)
    edge_text: str = ""


def log_of(name: str, since: str) -> str:
    """What a container wrote on stdout."""
    return docker("logs", "--since", since, containers()[in_charge(name)]["Id"])


def lines(text: str, event: str) -> list[Line]:
    return [line for line in map(json.loads, text.splitlines()) if line.get("event") == event]


def attacked(row: Row, token: str) -> list[Reply]:
    """All answers to a row and to a good request behind it, which also ends the connection."""
    last = request(CLOSE, start=f"GET {TARGET}?behind HTTP/1.1").replace(b"MARK", f"behind-{row.marker}".encode())
    return say((row.data.replace(b"MARK", row.marker.encode()) + last).replace(b"TOKEN", token.encode()), row.way, row.method)


def attacked_by_frames(row: Frames, token: str) -> list[Reply]:
    with http2() as client:
        row.send(client, hostile_frames.base(token, row.marker))
        return [client.reply(1)]


def flooded(name: str, token: str) -> str:
    """Whether the edge ended the connection, goes on with it, or says nothing any more."""
    with http2() as client:
        FLOODS[name](client, hostile_frames.base(token, "hostile-flood"))
        client.send(PING)
        client.connection.settimeout(5)
        with suppress(TimeoutError):
            while not client.closed and client.reason is None and not client.pongs:
                client.read()
        if client.closed or client.reason is not None:
            return "ended"
        return "goes on" if client.pongs else "silent"


def slow_headers(_: str) -> bytes:
    """A byte now and then, for ever."""
    with connected(Way.TLS) as connection:
        connection.sendall(b"GET /api/v1/users/me HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        return trickled(connection)


def slow_body(token: str) -> bytes:
    """Some bytes of a body, and then nothing."""
    with connected(Way.TLS) as connection:
        start = request("Content-Length: 100", start="POST /api/v1/documents HTTP/1.1")
        connection.sendall(start.replace(b"TOKEN", token.encode()).replace(b"MARK", b"hostile-slow-body") + b'{"title"')
        return all_of(connection)


def slow_frames(token: str) -> bytes:
    """The beginning of a block of headers, and then nothing."""
    with http2(Way.TLS) as client:
        # An answer to the edge's settings between two parts of the headers would be a reason to end it at once.
        client.send(PING)
        while not client.pongs:
            client.read()
        frame = client.header_frames(1, hostile_frames.base(token, "hostile-slow-frames"), end=True)[0]
        frame.flags.discard("END_HEADERS")
        client.send(frame)
        client.drain()
        return client.streams[1].body if 1 in client.streams else b""


def slow_body_frames(token: str) -> bytes:
    with http2(Way.TLS) as client:
        good = [*hostile_frames.base(token, "hostile-slow-body-frames"), ("content-length", "100")]
        client.start(1, [(name, "POST" if name == ":method" else value) for name, value in good], end=False)
        reply = client.reply(1)
        return reply.body


SLOW: dict[str, Callable[[str], bytes]] = {
    "headers": slow_headers,
    "body": slow_body,
    "frames of headers": slow_frames,
    "frames of a body": slow_body_frames,
}


def trickled(connection: socket.socket) -> bytes:
    connection.settimeout(1)
    end = time.monotonic() + 40
    while time.monotonic() < end:
        try:
            connection.sendall(b"a")
            if (came := connection.recv(1000)) or not came:
                return bytes(came)
        except TimeoutError:
            continue
        except (ConnectionError, ssl.SSLError):
            return b""
    raise AssertionError("the edge waits for ever")


def all_of(connection: socket.socket) -> bytes:
    data = b""
    with suppress(ConnectionError, ssl.SSLError):
        while came := connection.recv(1000):
            data += came
    return data


@pytest.fixture(scope="module")
def attack(stack: Stack) -> Attack:
    """Everything at once, as far as this machine can, while somebody else goes on asking."""
    token = stack.session()["Authorization"]
    user = ask("/api/v1/users/me", headers=stack.session()).body["id"]
    steady = Steady()
    time.sleep(1)
    since = datetime.now(UTC).isoformat()
    before = set(workers())
    with steady.asking(), ThreadPoolExecutor(len(SLOW) * SLOW_CLIENTS) as waiting, ThreadPoolExecutor(AT_ONCE) as pool:
        slow = {f"{name} {number}": waiting.submit(SLOW[name], token) for name in SLOW for number in range(SLOW_CLIENTS)}
        answers = {row.name: pool.submit(attacked, row, token) for row in ROWS}
        answers |= {row.name: pool.submit(attacked_by_frames, row, token) for row in FRAMES}
        given = {name: answer.result() for name, answer in answers.items()}
        floods = {name: flooded(name, token) for name in FLOODS}
        ended = {name: answer.result() for name, answer in slow.items()}
    edge = log_of("edge", since)
    found = Attack(user, given, floods, ended, steady, (before, set(workers())), edge_text=edge)
    found.edge = lines(edge, "edge.request")
    found.api = lines(log_of("api", since), "request")
    return found


def test_there_are_enough_of_them() -> None:
    rows: list[Row | Frames] = [*ROWS, *FRAMES]
    assert len(rows) >= 200
    assert len({row.marker for row in rows}) == len(rows)


@pytest.mark.requirement("EDGE-01", "EDGE-03", "ERR-01")
@pytest.mark.parametrize("row", [*ROWS, *FRAMES], ids=lambda row: row.name)
def test_an_attack_is_answered_as_it_should(attack: Attack, row: Row | Frames) -> None:
    replies = attack.answers[row.name] or [Reply(CLOSED)]
    assert replies[0].status in row.statuses, replies
    for reply in replies:
        if reply.status == CLOSED:
            continue
        assert_headers(reply)
        if reply.status >= 400:
            assert envelope(reply)["code"] == CODES.get(reply.status, "validation_error")
            assert reply.status < 500 or reply.status in OF_THE_CLIENTS_MAKING & row.statuses


@pytest.mark.requirement("SEC-05")
@pytest.mark.parametrize("row", [*ROWS, *FRAMES], ids=lambda row: row.name)
def test_the_service_sees_an_attack_only_where_it_may(attack: Attack, row: Row | Frames) -> None:
    seen = [line for line in attack.api if line["request_id"] == row.marker or line["path"] == f"/api/v1/{row.marker}"]
    if row.statuses == ACCEPTED:
        # These show that the service's log tells of them at all.
        assert len(seen) == 1
    assert len(seen) <= int(row.reaches), seen


@pytest.mark.requirement("SEC-05")
def test_the_service_sees_nobody_but_who_the_gateway_named(attack: Attack) -> None:
    addresses = {line["client"] for line in attack.edge}
    asked = [line for line in attack.api if line["path"] != "/healthz"]
    assert len(asked) > 100
    # Nobody is named where there was nothing to do for him.
    assert {line["principal_id"] for line in asked if line["status"] < 400} == {attack.user}
    assert {line["principal_id"] for line in asked} <= {attack.user, None}
    assert {line["client_ip"] for line in asked} <= addresses
    assert FOREIGN_ADDRESS not in addresses
    assert {line["method"] for line in asked} <= {"GET", "POST"}


def test_nothing_that_was_hidden_in_another_request_reaches_the_service(attack: Attack) -> None:
    assert [line for line in attack.api if "smuggled" in line["path"]] == []
    assert {line["path"].strip("/") for line in attack.api} & set(HIDDEN) == set()
    # It was asked for: the edge took it for a request of its own, by nobody.
    assert {line["status"] for line in attack.edge if line["path"] == SMUGGLED and not line["principal"]} == {401}


def test_the_edge_makes_no_failure_of_its_own(attack: Attack) -> None:
    failed = Counter(line["status"] for line in attack.edge if line["status"] >= 500)
    assert set(failed) <= OF_THE_CLIENTS_MAKING, failed


@pytest.mark.requirement("EDGE-03")
def test_no_request_id_is_more_than_an_id(attack: Attack) -> None:
    ids = {line["request_id"] for line in [*attack.edge, *attack.api]}
    assert [given for given in ids if not REQUEST_ID.fullmatch(given)] == []
    for name, value in hostile_requests.IDS.items():
        if value:
            row = f"id {name}"
            seen = [line["request_id"] for line in attack.edge if Row(row, b"", ACCEPTED).marker in line["path"]]
            assert len(seen) == 1, row
            assert re.fullmatch("[0-9a-f]{32}", seen[0]), row


def test_what_attacks_stands_nowhere_in_the_log_as_it_came(attack: Attack) -> None:
    assert [word for word in ("\x1b", "\x01", "\x7f", "\x9b", "\u202e", STRANGER) if word in attack.edge_text] == []
    assert attack.edge_text.count("\n") + 1 == len(attack.edge)


@pytest.mark.parametrize("name", SLOW)
def test_who_is_slow_is_sent_away(attack: Attack, name: str) -> None:
    """Without an answer: nginx has none for it."""
    assert {attack.slow[f"{name} {number}"] for number in range(SLOW_CLIENTS)} == {b""}
    assert [line for line in attack.api if line["request_id"].startswith("hostile-slow")] == []


ENDED = {"continuations", "empty continuations", "a table that grows"}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_ended_or_endured(attack: Attack, name: str) -> None:
    assert attack.floods[name] in ({"ended"} if name in ENDED else {"ended", "goes on"})


def test_no_process_of_the_edge_is_lost_by_it(attack: Attack) -> None:
    assert attack.workers[0] == attack.workers[1]
    assert len(attack.workers[0]) >= 1


def test_others_are_served_meanwhile(attack: Attack) -> None:
    assert set(attack.steady.statuses) == {200}
    assert attack.steady.statuses[200] >= 30


def test_afterwards_all_is_as_before(session: dict[str, str]) -> None:
    """As soon as the gateway has been through the questions of the floods."""
    signed = Request(TARGET, headers=tuple(session.items()))
    end = time.monotonic() + 60
    while ask_1(signed).status != 200:
        assert time.monotonic() < end
        time.sleep(0.5)
    assert ask_2(signed).status == 200
