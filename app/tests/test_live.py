"""The live tail: every member gets every entry once and in order, whichever worker of whichever container it was sent to."""

import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from websockets.exceptions import InvalidStatus

from seawall_service.main import create_app
from seawall_service.realtime import hub
from seawall_service.startup_gate import load_settings
from tests.conftest import Boot, client_of
from tests.live_client import connect, watching
from tests.running_server import RunningServer
from tests.test_server import BODY, begin_request

ENTRIES = 60
PING = '{"type": "ping"}'
NO_CACHE = "redis://seawall@127.0.0.1:9/0"

type Servers = tuple[RunningServer, RunningServer]


def started(tmp_path_factory: pytest.TempPathFactory, **environment: str) -> RunningServer:
    return RunningServer(tmp_path_factory.mktemp("live") / "server", "asgi", environment).start()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Two containers, as it were, of two workers each."""
    pair = started(tmp_path_factory), started(tmp_path_factory)
    try:
        for server in pair:
            server.until_answering("/readyz", seconds=60)
        yield pair
    finally:
        for server in pair:
            server.kill()


def new_document(server: RunningServer, headers: dict[str, str]) -> str:
    answer = server.post("/api/v1/documents", {"title": "Log book"}, headers)
    assert answer.status == 201
    return f"/api/v1/documents/{answer.json()['id']}"


def append(server: RunningServer, document: str, headers: dict[str, str], content: str = "x") -> dict[str, Any]:
    answer = server.post(f"{document}/entries", {"content": content}, headers)
    assert answer.status == 201, answer.body
    return answer.json()


def errors_of(server: RunningServer) -> list[dict[str, Any]]:
    """Our own: uvicorn complains when a client leaves before the upgrade is answered."""
    return [
        line
        for line in server.log_lines
        if line["level"] in {"error", "critical"} and line.get("logger") != "seawall_service.sockets"
    ]


def positions(messages: list[dict[str, Any]]) -> list[int]:
    return [message["entry"]["position"] for message in messages]


def refusal(connecting: Callable[[], object]) -> tuple[int, dict[str, Any], str]:
    """The status, the error of the envelope, and the request id of the header."""
    with pytest.raises(InvalidStatus) as refused:
        connecting()
    response = refused.value.response
    return response.status_code, json.loads(response.body)["error"], response.headers["X-Request-ID"]


@pytest.mark.requirement("WS-04")
def test_entries_come_from_every_worker(servers: Servers, headers: dict[str, str]) -> None:
    here, there = servers
    document = new_document(here, headers)
    asked = headers | {"X-Request-ID": "the-upgrade"}
    live = connect(here, f"{document}/live", asked)
    with closing(live):
        ready = live.receive()
        assert live.connection.response is not None
        assert live.connection.response.headers["X-Request-ID"] == "the-upgrade"
        assert ready == {
            "type": "ready",
            "connection_id": str(UUID(ready["connection_id"])),
            "request_id": "the-upgrade",
            "version": 1,
            "position": 0,
        }
        sent = [
            append(server, document, headers | {"X-Request-ID": f"call-{number}"}, f"entry {number}")
            for number, server in enumerate([here, there] * 4)
        ]
        messages = live.entries(len(sent))
    for number, (message, entry) in enumerate(zip(messages, sent, strict=True)):
        shown = {name: entry[name] for name in ("id", "position", "author_id", "content", "created_at")}
        assert message == {
            "type": "entry",
            "document_id": entry["document_id"],
            "entry": shown,
            "request_id": f"call-{number}",
            "version": entry["version"],
        }


def test_who_comes_back_gets_what_was_missed(servers: Servers, headers: dict[str, str]) -> None:
    document = new_document(servers[0], headers)
    for number in range(3):
        append(servers[0], document, headers | {"X-Request-ID": f"call-{number}"})
    # Between the entries, so that versions are not positions plus one.
    member = {"user_id": str(uuid4()), "role": "viewer"}
    assert servers[0].post(f"{document}/members", member, headers).status == 201
    append(servers[0], document, headers)
    with watching(servers[1], document, headers, after=1) as live:
        missed = live.entries(3)
        assert positions(missed) == [2, 3, 4]
        assert [message["version"] for message in missed] == [3, 4, 6]
        assert [message["request_id"] for message in missed[:2]] == ["call-1", "call-2"]
        append(servers[0], document, headers)
        assert positions(live.entries(1)) == [5]
    with watching(servers[1], document, {"X-Principal-Id": member["user_id"]}) as live:
        append(servers[0], document, headers)
        assert positions(live.entries(1)) == [6]


def test_who_knows_more_than_there_is_gets_what_comes(servers: Servers, headers: dict[str, str]) -> None:
    """Such as after a backup was brought back."""
    document = new_document(servers[0], headers)
    append(servers[0], document, headers)
    with watching(servers[0], document, headers, after=7) as live:
        append(servers[1], document, headers)
        assert positions(live.entries(1)) == [2]


def set_entry_count(database: psycopg.Connection, document: str, count: int) -> None:
    """Entries cannot be removed, so what a socket has seen of a lost future is written beforehand."""
    done = database.execute("UPDATE proj_documents SET entry_count = %s WHERE id = %s", (count, document.rsplit("/", 1)[1]))
    assert done.rowcount == 1


@pytest.mark.requirement("WS-05")
@pytest.mark.parametrize("written_by", [0, 1], ids=["its own container", "another one"])
def test_a_socket_learns_that_its_document_was_set_back(
    servers: Servers, headers: dict[str, str], database: psycopg.Connection, written_by: int
) -> None:
    """By a backup that was brought back under it: new entries stand at positions that it takes for known."""
    document = new_document(servers[0], headers)
    append(servers[0], document, headers)
    set_entry_count(database, document, 9)
    with watching(servers[0], document, headers) as live:
        set_entry_count(database, document, 1)
        append(servers[written_by], document, headers)
        said, code = live.until_closed()
        assert ([(item["type"], item.get("code")) for item in said], code) == ([("error", "conflict")], 1012)
    again = connect(servers[0], f"{document}/live?after=9", headers)
    with closing(again):
        assert again.receive()["position"] == 2
        append(servers[written_by], document, headers)
        assert positions(again.entries(1)) == [3]


@pytest.mark.requirement("WS-05")
def test_who_comes_after_a_set_back_is_not_kept_waiting_by_who_came_before(
    boot: Boot, headers: dict[str, str], database: psycopg.Connection
) -> None:
    server = boot(WEB_CONCURRENCY="1").start().until_answering("/readyz")
    document = new_document(server, headers)
    set_entry_count(database, document, 9)
    with watching(server, document, headers) as before:
        set_entry_count(database, document, 0)
        with watching(server, document, headers) as later:
            append(server, document, headers)
            assert positions(later.entries(1)) == [1]
            assert before.until_closed()[1] == 1012
            append(server, document, headers)
            assert positions(later.entries(1)) == [2]
    assert errors_of(server) == []


@pytest.mark.requirement("WS-05")
def test_who_waits_for_what_is_lost_asks_no_end_of_questions(
    boot: Boot, headers: dict[str, str], database: psycopg.Connection
) -> None:
    """Told of entries, behind them, and then they are gone."""
    server = boot(WEB_CONCURRENCY="1", REDIS_URL="").start().until_answering("/readyz")
    document = new_document(server, headers)
    with watching(server, document, headers) as live:
        told: list[dict[str, Any]] = []
        deadline = time.monotonic() + 60
        while not told:
            assert time.monotonic() < deadline
            set_entry_count(database, document, 9)
            # For a look, which comes often without Valkey: from then on the socket wants what cannot be read.
            time.sleep(2)
            set_entry_count(database, document, 0)
            with suppress(TimeoutError):
                told.append(live.receive(2))
        assert [item["code"] for item in told] == ["conflict"]
        assert live.until_closed() == ([], 1012)


def test_an_entry_without_a_known_cause(servers: Servers, headers: dict[str, str], database: psycopg.Connection) -> None:
    """Such as the release before this one wrote them."""
    document = new_document(servers[0], headers)
    document_id, entry_id = document.rsplit("/", 1)[1], str(uuid4())
    user = headers["X-Principal-Id"]
    with database.transaction():
        database.execute(
            "INSERT INTO events (stream_id, stream_version, type, payload, principal_id)"
            " VALUES (%s, 2, 'document.entry_appended', jsonb_build_object('entry_id', %s::text, 'position', 1), %s)",
            (document_id, entry_id, user),
        )
        database.execute(
            "INSERT INTO entries_document (id, document_id, position, author_id, content) VALUES (%s, %s, 1, %s, 'old')",
            (entry_id, document_id, user),
        )
        database.execute("UPDATE proj_documents SET version = 2, entry_count = 1 WHERE id = %s", (document_id,))
    with watching(servers[0], document, headers, after=0) as live:
        assert live.entries(1)[0]["request_id"] == "n/a"


def follow(servers: Servers, document: str, headers: dict[str, str], seed: int) -> list[int]:
    """Reads everything, leaving and coming back at random."""
    chance = random.Random(seed)
    seen: list[int] = []
    while len(seen) < ENTRIES:
        after = seen[-1] if seen else 0
        with watching(chance.choice(servers), document, headers, after) as live:
            for _ in range(chance.randint(1, 12)):
                seen += positions(live.entries(1))
                if len(seen) >= ENTRIES:
                    break
    return seen


def test_no_gap_and_no_duplicate_while_appends_race(servers: Servers, headers: dict[str, str]) -> None:
    document = new_document(servers[0], headers)
    with ThreadPoolExecutor(7) as threads:
        readers = [threads.submit(follow, servers, document, headers, seed) for seed in (1, 2, 3)]
        list(threads.map(lambda number: append(servers[number % 2], document, headers), range(ENTRIES)))
        assert [reader.result(60) for reader in readers] == [list(range(1, ENTRIES + 1))] * 3


def test_what_was_not_committed_is_not_told(servers: Servers, headers: dict[str, str]) -> None:
    document = new_document(servers[0], headers)
    with watching(servers[0], document, headers) as live:
        stale = servers[0].post(f"{document}/entries", {"content": "never", "expected_version": 9}, headers)
        assert stale.status == 409
        append(servers[0], document, headers, "kept")
        assert live.entries(1)[0]["entry"]["content"] == "kept"


@pytest.mark.requirement("ERR-01", "LOG-01")
def test_refusals_before_the_upgrade_have_the_envelope(servers: Servers, headers: dict[str, str]) -> None:
    document = new_document(servers[0], headers)
    stranger = {"X-Principal-Id": str(uuid4()), "X-Request-ID": "known"}
    for path, sent, status, code in (
        (f"{document}/live", stranger, 404, "not_found"),
        (f"/api/v1/documents/{uuid4()}/live", stranger, 404, "not_found"),
        (f"{document}/live", {"X-Principal-Id": "me", "X-Request-ID": "known"}, 401, "unauthorized"),
        ("/api/v1/documents/x/live", stranger, 422, "validation_error"),
        (f"{document}/live?after=-1", stranger, 422, "validation_error"),
        ("/nowhere", stranger, 404, "not_found"),
        (document, stranger, 404, "not_found"),
    ):
        found, error, request_id = refusal(partial(connect, servers[0], path, sent))
        assert (found, error["code"], error["request_id"], request_id) == (status, code, "known", "known"), path


@pytest.mark.parametrize(
    ("offered", "chosen"), [(("seawall.v1",), "seawall.v1"), (("other", "seawall.v1"), "seawall.v1"), ((), None)]
)
def test_the_subprotocol_is_answered(
    servers: Servers, headers: dict[str, str], offered: tuple[str, ...], chosen: str | None
) -> None:
    live = connect(servers[0], f"{new_document(servers[0], headers)}/live", headers, subprotocols=offered)
    with closing(live):
        assert live.connection.subprotocol == chosen


@pytest.mark.parametrize("message", ["", "{", "ping", "[]", '{"type": "append"}', "\x00", b"\x00\xff", "9" * 5000])
def test_what_is_not_understood_ends_the_socket(servers: Servers, headers: dict[str, str], message: str | bytes) -> None:
    with watching(servers[0], new_document(servers[0], headers), headers) as live:
        live.connection.send('{"type": "ping"}')
        assert live.receive() == {"type": "pong"}
        live.connection.send(message)
        said, code = live.until_closed()
        assert ([(item["type"], item["code"]) for item in said], code) == ([("error", "bad_request")], 1008)


def test_who_is_no_member_any_more_gets_nothing_more(
    servers: Servers, headers: dict[str, str], database: psycopg.Connection
) -> None:
    document = new_document(servers[0], headers)
    member = {"X-Principal-Id": str(uuid4())}
    for number in range(2):
        user = member if number else {"X-Principal-Id": str(uuid4())}
        assert (
            servers[0].post(f"{document}/members", {"user_id": user["X-Principal-Id"], "role": "viewer"}, headers).status == 201
        )
    with watching(servers[0], document, member) as live, watching(servers[0], document, headers) as stays:
        database.execute("DELETE FROM proj_memberships WHERE user_id = %s", (member["X-Principal-Id"],))
        append(servers[1], document, headers, "not for you")
        said, code = live.until_closed()
        assert ([(item["type"], item.get("code")) for item in said], code) == ([("error", "forbidden")], 1008)
        assert positions(stays.entries(1)) == [1]


def test_who_has_been_disabled_gets_nothing_more(
    servers: Servers, headers: dict[str, str], database: psycopg.Connection, user_id: str
) -> None:
    document, member = new_document(servers[0], headers), {"X-Principal-Id": user_id}
    added = servers[0].post(f"{document}/members", {"user_id": user_id, "role": "viewer"}, headers)
    assert added.status == 201
    with watching(servers[0], document, member) as live, watching(servers[0], document, headers) as stays:
        database.execute("UPDATE proj_users SET disabled_at = now() WHERE id = %s", (user_id,))
        append(servers[1], document, headers, "not for you")
        said, code = live.until_closed()
        assert ([(item["type"], item.get("code")) for item in said], code) == ([("error", "forbidden")], 1008)
        assert positions(stays.entries(1)) == [1]
    status, error, _ = refusal(partial(connect, servers[0], f"{document}/live", member))
    assert (status, error["code"]) == (404, "not_found")


def lines(server: RunningServer, event: str, document: str) -> list[dict[str, Any]]:
    return [line for line in server.log_lines if line["event"] == event and line.get("path") == f"{document}/live"]


@pytest.mark.requirement("LOG-13")
def test_one_access_line_for_each_socket(servers: Servers, headers: dict[str, str]) -> None:
    document = new_document(servers[0], headers)
    with watching(servers[0], document, headers | {"X-Request-ID": "watched"}) as live:
        append(servers[0], document, headers)
        live.entries(1)
        live.connection.send('{"type": "ping"}')
        live.receive()
    refusal(lambda: connect(servers[0], f"{document}/live", {"X-Principal-Id": str(uuid4())}))
    deadline = time.monotonic() + 60
    while len(lines(servers[0], "websocket.closed", document)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    watched, refused = lines(servers[0], "websocket.closed", document)
    assert (watched["status"], watched["close_code"], watched["received"], watched["sent"]) == (101, 1000, 1, 3)
    assert (watched["request_id"], watched["principal_id"]) == ("watched", headers["X-Principal-Id"])
    assert watched["duration_ms"] > 0
    assert refused["status"] == 404


@pytest.mark.requirement("RUN-03")
def test_sockets_close_at_sigterm_and_requests_finish(boot: Boot, headers: dict[str, str]) -> None:
    server = boot().start().until_answering("/readyz", seconds=60)
    document = new_document(server, headers)
    sockets = [connect(server, f"{document}/live", headers) for _ in range(6)]
    for live in sockets:
        live.receive()
    with closing(begin_request(server, headers["X-Principal-Id"])) as connection:
        # A request to each worker: by then the half one has been taken.
        for _ in range(6):
            server.get("/healthz")
        server.terminate()
        # Before the drain ends: the half request would be cut then.
        codes = [live.until_closed()[1] for live in sockets]
        assert codes == [1012] * 6
        connection.send(BODY[10:])
        assert connection.getresponse().status == 201
    assert server.wait() == 0
    assert errors_of(server) == []


@pytest.mark.requirement("C22")
@pytest.mark.parametrize("url", [NO_CACHE, ""])
def test_without_valkey_entries_come_a_little_later(boot: Boot, headers: dict[str, str], url: str) -> None:
    here, there = (boot(REDIS_URL=url).start() for _ in range(2))
    for server in (here, there):
        server.until_answering("/readyz", seconds=60)
    document = new_document(here, headers)
    with watching(here, document, headers) as live:
        for server in (there, here, there):
            append(server, document, headers)
        assert positions(live.entries(3)) == [1, 2, 3]
    warned = [line for line in here.log_lines if line["event"] == "live.degraded"]
    assert bool(warned) == bool(url)


@pytest.mark.requirement("SEC-05")
def test_a_socket_is_not_older_than_a_token(boot: Boot, headers: dict[str, str]) -> None:
    server = boot(REQUIRE_AUTHENTICATED_PRINCIPAL="true", ACCESS_TOKEN_TTL_SECONDS="1", REDIS_URL="")
    server.start().until_answering("/readyz", seconds=60)
    document = new_document(server, headers)
    assert refusal(lambda: connect(server, f"{document}/live", {}))[0] == 401
    with watching(server, document, headers) as live:
        said, code = live.until_closed()
        assert ([item["code"] for item in said], code) == (["unauthorized"], 3000)


@pytest.mark.requirement("WS-01", "SEC-12")
def test_without_the_switch_there_is_no_limit(servers: Servers, headers: dict[str, str]) -> None:
    document = new_document(servers[0], headers)
    with ExitStack() as stack:
        for _ in range(12):
            live = stack.enter_context(watching(servers[0], document, headers))
        live.connection.send(PING.ljust(10_000))
        assert live.receive() == {"type": "pong"}
        evil = connect(servers[0], f"{document}/live", headers, origin="https://anywhere.example")
        stack.callback(evil.close)
        assert evil.receive()["type"] == "ready"


@pytest.mark.requirement("SEC-12")
def test_a_closed_socket_raises_nothing(servers: Servers, headers: dict[str, str]) -> None:
    """Cut without a word, in the middle of what is being sent."""
    document = new_document(servers[0], headers)
    for number in range(10):
        live = connect(servers[0], f"{document}/live?after=0", headers)
        if number % 2:
            live.receive()
        live.connection.socket.close()
        append(servers[0], document, headers)
    with watching(servers[0], document, headers, after=0) as live:
        assert positions(live.entries(10)) == list(range(1, 11))
    assert errors_of(servers[0]) == []


@pytest.mark.requirement("SEC-09")
def test_what_a_client_sends_is_in_no_log_even_when_it_says_all(boot: Boot, headers: dict[str, str]) -> None:
    server = boot(LOG_LEVEL="debug").start().until_answering("/readyz", seconds=60)
    document = new_document(server, headers)
    sent = headers | {"Authorization": "Bearer in-the-header"}
    with closing(connect(server, f"{document}/live?access_token=in-the-query", sent)) as live:
        assert live.receive()["type"] == "ready"
        append(server, document, headers, "in-the-entry")
        assert live.receive()["entry"]["content"] == "in-the-entry"
        live.connection.send("in-the-message")
        live.until_closed()
    assert len(lines(server, "websocket.closed", document)) == 1
    assert [word for word in ("in-the-header", "in-the-query", "in-the-entry", "in-the-message") if word in server.stdout] == []


@pytest.mark.requirement("WS-04")
@pytest.mark.parametrize("processes", [1, 2])
def test_an_entry_is_told_of_without_anybody_looking(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], processes: int
) -> None:
    """By the worker that wrote it, to its own sockets and through Valkey to those of others; the look is for what gets lost."""
    for name in ("LOOK_SECONDS", "LOOK_OFTEN_SECONDS"):
        monkeypatch.setattr(hub, name, 3600.0)
    if processes == 1:
        monkeypatch.setenv("REDIS_URL", "")
    told: list[str] = []
    # The client leaves by cancelling what serves it.
    with ThreadPoolExecutor(1) as thread, suppress(CancelledError), ExitStack() as stack:
        clients = [stack.enter_context(client_of(create_app(load_settings("api")))) for _ in range(processes)]
        document = clients[0].post("/api/v1/documents", json={"title": "t"}, headers=headers).json()["id"]
        path = f"/api/v1/documents/{document}"
        socket = stack.enter_context(clients[-1].websocket_connect(f"{path}/live", headers=headers))
        assert socket.receive_json()["type"] == "ready"
        # Who has just subscribed looks once.
        time.sleep(2)
        assert clients[0].post(f"{path}/entries", json={"content": "c"}, headers=headers).status_code == 201
        told.append(thread.submit(socket.receive_json).result(30)["entry"]["content"])
    assert told == ["c"]
