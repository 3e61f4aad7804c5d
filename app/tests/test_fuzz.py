"""Bytes that nobody would send, always the same, to the real server: never a 500, never an error without the envelope."""

import contextlib
import http.client
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.running_server import RunningServer

TIMEOUT_SECONDS = 20.0
PATIENCE_SECONDS = 1.0
# 503 and 504 are allowed: the machine that runs the tests may be a slow one.
FAILURES = {500, 501, 502}
TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

repeatable = settings(max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
anything = st.binary(max_size=200)
line = anything.map(lambda value: value.translate(None, b"\r\n\x00"))
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"HEAD", b"TRACE"]) | st.lists(
    st.sampled_from(list(TOKEN)), min_size=1, max_size=12
).map(bytes)
known_paths = [
    *(b"/api/v1/documents", b"/api/v1/documents/", b"/api/v1/users/me", b"/readyz", b"/"),
    *(b"/api/auth/login", b"/api/auth/refresh", b"/api/auth/logout", b"/internal/verify"),
]
paths = st.sampled_from(known_paths).flatmap(
    lambda known: anything.map(lambda value: known + value.translate(None, b" \r\n\t\x00"))
)
# WebSocket upgrades are left out: they have tests of their own.
names = st.sampled_from(
    [
        *(b"X-Request-ID", b"X-Principal-Id", b"X-Forwarded-For", b"Idempotency-Key", b"Content-Type", b"Origin", b"Host"),
        *(b"Authorization", b"Access-Control-Request-Method", b"Accept", b"Cookie", b"traceparent", b"Expect", b"Range"),
    ]
)
# Tokens that get further than most: signed by nobody, signed with nothing, and of parts that are no objects.
tokens = st.sampled_from([b"e30.e30.", b"eyJhbGciOiJub25lIn0.e30.", b"eyJhbGciOiJIUzI1NiJ9.W10.AA", b"W10.W10.AA", b"..", b"a.b"])
values = line | line.map(lambda value: b"Bearer " + value) | tokens.map(lambda value: b"Bearer " + value)
bodies = anything | st.sampled_from(
    [b"{}", b"[]", b"null", b'{"title": 1e999}', b'{"title": "\\ud800"}', b'{"refresh_token": "x"}', b"[" * 5000, b'"' * 99]
)


class ReadOnly:
    """What http.client reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self.data)


@contextlib.contextmanager
def running(directory: Path, application: str) -> Iterator[RunningServer]:
    server = RunningServer(directory / "server", application, {"CORS_ORIGINS": "https://example.org"})
    try:
        yield server.start().until_answering("/readyz")
    finally:
        server.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(tmp_path_factory.mktemp("fuzz"), "asgi") as started:
        yield started


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(tmp_path_factory.mktemp("fuzz"), "auth_asgi") as started:
        yield started


@pytest.fixture(scope="module", params=["server", "gateway"])
def either(request: pytest.FixtureRequest) -> RunningServer:
    started: RunningServer = request.getfixturevalue(request.param)
    return started


def say(server: RunningServer, data: bytes, patience: float = TIMEOUT_SECONDS) -> bytes:
    """Everything that the server answers until it hangs up; it may do so before it has read all."""
    answer = b""
    gone = (TimeoutError, BrokenPipeError, ConnectionResetError)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(patience)
        client.connect(str(server.socket))
        with contextlib.suppress(*gone):
            client.sendall(data)
        # Also where it did not want to hear the end: what it has said can still be read.
        with contextlib.suppress(*gone):
            while received := client.recv(65536):
                answer += received
    return answer


def judge(answer: bytes, method: str) -> None:
    response = http.client.HTTPResponse(cast("socket.socket", ReadOnly(answer)), method=method)
    response.begin()
    assert response.status not in FAILURES, answer
    if response.status < 400:
        return
    assert response.headers["Content-Type"] == "application/json", answer
    if method != "HEAD":
        error = json.loads(response.read())["error"]
        assert set(error) == {"code", "message", "request_id", "details"}
        assert error["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.requirement("ERR-01", "LOG-01")
@given(method=methods, path=paths, headers=st.lists(st.tuples(names, values), max_size=6), body=bodies, chunked=st.booleans())
@repeatable
def test_requests_of_random_bytes(
    either: RunningServer, method: bytes, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes, *, chunked: bool
) -> None:
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked and body else b"0\r\n\r\n" if chunked else body
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    answer = say(either, b"%b %b HTTP/1.1\r\n%b\r\nConnection: close\r\n%b\r\n" % (method, path, framing, head) + sent)
    assert answer
    judge(answer, method.decode())


@pytest.mark.requirement("ERR-01")
@given(data=anything)
@repeatable
def test_what_is_no_http(server: RunningServer, data: bytes) -> None:
    answer = say(server, data + b"\r\n\r\n", PATIENCE_SECONDS)
    # What may still become a request is waited for.
    if answer:
        judge(answer, "GET")


@pytest.mark.requirement("ERR-01")
@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\nno header\r\n\r\n"]
)
def test_what_is_no_http_is_told_so(either: RunningServer, data: bytes) -> None:
    answer = say(either, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    judge(answer, "GET")


@pytest.mark.requirement("ERR-01", "LOG-01")
@pytest.mark.parametrize("bad", [b"X-Odd: a\x01b", b"no header"])
@pytest.mark.parametrize(("named", "kept"), [(b"told-by-the-edge", True), (b"not one of ours", False)])
def test_what_is_no_http_has_the_id_that_it_came_with(server: RunningServer, bad: bytes, named: bytes, *, kept: bool) -> None:
    answer = say(server, b"GET /healthz HTTP/1.1\r\nX-Request-ID: %b\r\nHost: localhost\r\n%b\r\n\r\n" % (named, bad))
    assert answer.startswith(b"HTTP/1.1 400 ")
    judge(answer, "GET")
    assert (named in answer) == kept


@pytest.mark.parametrize("bad", [b"GET\r\n\r\n", b"\x00", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"])
def test_what_is_no_http_is_no_answer_to_a_request_before_it(server: RunningServer, bad: bytes) -> None:
    """Whoever sends several requests at once takes the first answer for that to the first one."""
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert not say(server, first + bad).startswith(b"HTTP/1.1 400 ")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_SECONDS)
        client.connect(str(server.socket))
        client.sendall(first)
        answered = http.client.HTTPResponse(client, method="GET")
        answered.begin()
        assert (answered.status, answered.read() != b"") == (200, True)
        # One that has been answered is in nobody's way.
        client.sendall(bad)
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


BEFORE_FIELDS = {
    "headers": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
    # The head is answered only when the body has ended, and trailers are a part of that.
    "trailers": b"POST /api/v1/documents HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
    "trailers after an answer": b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
}


@pytest.mark.requirement("ERR-01", "SEC-07")
@pytest.mark.parametrize("piece", [b"a" * 1000, b"X-More: more\r\n" * 80], ids=["one field", "many fields"])
@pytest.mark.parametrize("before", list(BEFORE_FIELDS))
def test_fields_without_end_are_cut_off(server: RunningServer, before: str, piece: bytes) -> None:
    begun = BEFORE_FIELDS[before] + b"X-First: a\r\nX-Long: "
    answer = say(server, begun + piece * 4000)
    # Whoever is still sending may be cut off before the answer is read. What could be answered without its body is, where the
    # fields do not come in one piece with the head.
    if answer:
        expected = (b"HTTP/1.1 400 ", b"HTTP/1.1 405 ") if before == "trailers after an answer" else b"HTTP/1.1 400 "
        assert answer.startswith(expected)
        judge(answer, "GET")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_SECONDS)
        client.connect(str(server.socket))
        client.sendall(begun)
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 8_000_000:
                sent += client.send(piece)
        assert sent < 8_000_000


def test_large_headers_and_a_body_in_one_piece_are_let_through(server: RunningServer) -> None:
    head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: " + b"a" * 30_000
    answer = say(server, head + b"\r\nContent-Length: 200000\r\n\r\n" + b"b" * 200_000)
    assert answer.startswith(b"HTTP/1.1 405 ")


def test_a_body_in_many_small_chunks_is_let_through(server: RunningServer) -> None:
    """More bytes of framing than a head may have, and no more than a body may have."""
    chunks = b"1;what=ever\r\n \r\n" * 20_000 + b'e\r\n{"title": "t"}\r\n0\r\nX-Trailer: one\r\n\r\n'
    head = b"POST /api/v1/documents HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    assert say(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks).startswith(b"HTTP/1.1 201 ")
