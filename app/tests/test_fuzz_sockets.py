"""What nobody would send on a socket, always the same: the socket ends with a code, and nothing fails."""

import json
import socket
from collections.abc import Iterator
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.live_client import watching
from tests.running_server import RunningServer
from tests.test_fuzz import judge, say
from tests.test_live import PING, errors_of, new_document

WHO = {"X-Principal-Id": str(UUID(int=7, version=4))}
# Not understood, not text, refused by our rules, too large.
CLOSE_CODES = {1002, 1003, 1007, 1008, 1009}
PATIENCE_SECONDS = 20.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="

repeatable = settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
messages = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300),
    st.sampled_from([PING, "{}", "[]", "null", '{"type": 1e999}', "[" * 4000, "x" * 5000, "\x00", b"\xff" * 5000]),
)
unfit = {
    "no key": {"Sec-WebSocket-Key": None},
    "two keys": {"Sec-WebSocket-Key": f"{KEY}, {KEY}"},
    "short key": {"Sec-WebSocket-Key": "AAAA"},
    "old version": {"Sec-WebSocket-Version": "8"},
    "no version": {"Sec-WebSocket-Version": None},
    "another protocol": {"Upgrade": "h2c"},
    "no upgrade": {"Connection": "keep-alive"},
    "odd extension": {"Sec-WebSocket-Extensions": ";;;=,"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("fuzz") / "server", "asgi", {"WS_LIMITS_ENABLED": "true"})
    try:
        yield running.start().until_answering("/readyz", seconds=60)
    finally:
        running.kill()


@pytest.fixture(scope="module")
def document(server: RunningServer) -> str:
    return new_document(server, WHO)


def upgrade(document: str, **changed: str | None) -> bytes:
    """A request to upgrade, with some of its headers changed, or left out where they are None."""
    headers: dict[str, str | None] = {"Host": "localhost", "Connection": "Upgrade", "Upgrade": "websocket"}
    headers |= {"Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"} | WHO | changed
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"GET {document}/live HTTP/1.1", *lines, "", ""]).encode()


@pytest.mark.requirement("WS-02", "ERR-11")
@given(sent=messages)
@repeatable
def test_messages_of_anything(server: RunningServer, document: str, sent: str | bytes) -> None:
    with watching(server, document, WHO) as live:
        live.connection.send(sent)
        answers, code = live.until_closed() if sent != PING else ([live.receive()], None)
    assert [answer["type"] for answer in answers] == (["pong"] if sent == PING else ["error"] * len(answers))
    assert code in (CLOSE_CODES if sent != PING else {None})
    assert errors_of(server) == []


@pytest.mark.requirement("WS-02")
@given(data=st.binary(min_size=1, max_size=200))
@repeatable
def test_frames_of_random_bytes(server: RunningServer, document: str, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(server.socket))
        client.sendall(upgrade(document))
        assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
        client.sendall(data)
    assert server.get("/healthz").status == 200
    assert errors_of(server) == []


@pytest.mark.requirement("ERR-01")
@pytest.mark.parametrize("headers", unfit.values(), ids=unfit)
def test_an_unfit_upgrade_is_refused_with_the_envelope(
    server: RunningServer, document: str, headers: dict[str, str | None]
) -> None:
    answer = say(server, upgrade(document, **headers), 5)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 101"))
    if not answer.startswith(b"HTTP/1.1 101"):
        judge(answer, "GET")
        assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])
    assert errors_of(server) == []


@pytest.mark.requirement("ERR-01", "LOG-01")
def test_an_unfit_upgrade_has_the_id_that_it_came_with(server: RunningServer, document: str) -> None:
    answer = say(server, upgrade(document, **{"Sec-WebSocket-Version": "777", "X-Request-ID": "told-by-the-edge"}), 5)
    judge(answer, "GET")
    assert answer.count(b"told-by-the-edge") == 2
