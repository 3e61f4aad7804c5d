"""What nobody would send on a socket, always the same: the socket ends with a code, and nothing fails."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from seawall_service.malformed_requests import EnvelopeWebSocketProtocol
from tests.live_client import watching
from tests.running_server import RunningServer
from tests.test_fuzz import judge, line, names, say, values
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
upgrade_names = st.sampled_from(
    [
        *(b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions"),
        *(b"Connection", b"Upgrade", b"Origin", b"Content-Length", b"Transfer-Encoding", b"Cookie"),
    ]
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
    with opened(server, document) as client:
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
@given(
    beside=st.sampled_from(["", "/", "/live", "/live?", "/live/"]),
    rest=line.map(lambda value: value.translate(None, b" \t")),
    headers=st.lists(st.tuples(upgrade_names | names, values), max_size=4),
)
@repeatable
def test_upgrades_of_anything(
    server: RunningServer, document: str, beside: str, rest: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    head, _, fields = upgrade(document).partition(b"/live HTTP/1.1\r\n")
    more = b"".join(b"%b: %b\r\n" % header for header in headers)
    answer = say(server, head + beside.encode() + rest + b" HTTP/1.1\r\n" + more + fields, 2)
    assert answer
    if not answer.startswith(b"HTTP/1.1 101 "):
        judge(answer, "GET")
    assert errors_of(server) == []


@pytest.mark.requirement("ERR-01", "LOG-01")
@pytest.mark.parametrize(
    ("framing", "body"), [({"Content-Length": "1"}, b"x"), ({"Transfer-Encoding": "chunked"}, b"1\r\nx\r\n0\r\n\r\n")]
)
def test_an_upgrade_with_a_body_is_refused_at_once(
    server: RunningServer, document: str, framing: dict[str, str], body: bytes
) -> None:
    answer = say(server, upgrade(document, **framing, **{"X-Request-ID": "told-by-the-edge"}) + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    judge(answer, "GET")
    assert answer.count(b"told-by-the-edge") == 2
    assert say(server, upgrade(document, **{"Content-Length": "0"}), 2).startswith(b"HTTP/1.1 101 ")


@pytest.mark.requirement("ERR-01")
@pytest.mark.parametrize("more", [{f"X-Header-{number}": "x" for number in range(200)}, {"X-Header": "x" * 9000}])
def test_an_upgrade_with_more_headers_than_can_be_read_is_refused_once(
    server: RunningServer, document: str, more: dict[str, str]
) -> None:
    asked = str(uuid4())
    answer = say(server, upgrade(document, **more, **{"X-Request-ID": asked}))
    assert answer.startswith(b"HTTP/1.1 400 ")
    judge(answer, "GET")
    assert answer.count(asked.encode()) == 2
    assert [line["event"] for line in server.log_lines if line.get("request_id") == asked] == ["request.denied"]


def frame(opcode: int, payload: bytes, *, is_last: bool = True) -> bytes:
    """As a client masks it, with a mask that changes nothing; at most 125 bytes."""
    return bytes([0x80 * is_last | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@contextlib.contextmanager
def opened(server: RunningServer, document: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(server.socket))
        client.sendall(upgrade(document))
        assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
        yield client


def memory_mebibytes(server: RunningServer) -> int:
    """Of all workers together."""
    texts = [Path(f"/proc/{pid}/status").read_text(encoding="ascii") for pid in server.worker_pids()]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("VmRSS:")) // 1024


@pytest.mark.requirement("WS-06")
def test_who_pings_and_does_not_read_fills_no_memory(server: RunningServer, document: str) -> None:
    pings = frame(0x9, b"p" * 125) * 8_000
    with opened(server, document) as client:
        before = memory_mebibytes(server)
        for _ in range(30):
            client.sendall(pings)
        assert memory_mebibytes(server) - before < 15, "of 30 MB that were sent"
        # It is answered as before once it reads.
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while client.recv(1 << 20):
                pass
        client.settimeout(PATIENCE_SECONDS)
        client.sendall(frame(0x9, b"again"))
        assert client.recv(65536).endswith(b"again")
    assert server.get("/healthz").status == 200


@pytest.mark.requirement("WS-02")
def test_empty_pieces_of_a_message_are_not_kept(server: RunningServer, document: str) -> None:
    socket_of = EnvelopeWebSocketProtocol.__new__(EnvelopeWebSocketProtocol)
    socket_of.frames = [b"begun"]
    socket_of.handle_cont(Frame(Opcode.CONT, b"", fin=False))
    assert socket_of.frames == [b"begun"]
    begun, ended = PING.encode()[:3], PING.encode()[3:]
    with opened(server, document) as client:
        pieces = [frame(0x1, begun, is_last=False), frame(0x0, b"", is_last=False), frame(0x0, ended, is_last=False)]
        client.sendall(b"".join(pieces) + frame(0x0, b""))
        received = b""
        while b"pong" not in received:
            received += client.recv(65536)


@pytest.mark.requirement("WS-02", "ERR-10")
def test_what_is_no_text_is_the_clients_fault(server: RunningServer, document: str) -> None:
    with opened(server, document) as client:
        client.sendall(frame(0x1, b"\xff"))
        received = b""
        while b"\x88\x02\x03\xef" not in received:  # a close with 1007
            piece = client.recv(65536)
            assert piece, received
            received += piece
    assert [line for line in server.log_lines if "UTF-8" in line["event"]] == []


@pytest.mark.requirement("ERR-01", "LOG-01")
def test_an_unfit_upgrade_has_the_id_that_it_came_with(server: RunningServer, document: str) -> None:
    answer = say(server, upgrade(document, **{"Sec-WebSocket-Version": "777", "X-Request-ID": "told-by-the-edge"}), 5)
    judge(answer, "GET")
    assert answer.count(b"told-by-the-edge") == 2
