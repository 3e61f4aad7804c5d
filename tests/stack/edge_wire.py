"""Clients without manners: HTTP/1.1 as bytes and HTTP/2 as frames, over TLS with the installation's own CA."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

from edge_answers import CLOSED, Reply
from hpack import Decoder, Encoder, HPACKError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from installation import HTTP_PORT, HTTPS_PORT, ROOT

SECONDS = 40
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_SIZE = 16384
# More than any answer here.
WINDOW = 1 << 24

Headers = Sequence[tuple[str | bytes, str | bytes]]
# (host, port) of plain HTTP at an edge that is not that of the installation under test.
Address = tuple[str, int]


class Way(Enum):
    """How a request reaches the edge."""

    # The host's own way in: the public server with all its locations, and no limit counts.
    SOCKET = "socket"
    TLS = "tls"
    PLAIN = "plain"
    # Plain HTTP where TLS is spoken.
    PLAIN_TO_TLS = "plain-to-tls"


@dataclass(frozen=True)
class Request:
    """What both versions can say. A length that is declared is not sent unless there is a body, too."""

    target: str
    method: str = "GET"
    host: str = "localhost"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    declared: int | None = None
    chunked: bool = False


def tls_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ROOT / "tls/ca.pem"))


@contextmanager
def connected(
    way: Way = Way.SOCKET, protocols: Sequence[str] = (), name: str | None = "localhost", at: Address | None = None
) -> Iterator[socket.socket]:
    """A connection to the edge that offers the protocols in its handshake."""
    if way is Way.SOCKET:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(SECONDS)
        plain.connect(str(ROOT / "edge-status/https.sock"))
    else:
        ours = ("127.0.0.1", HTTP_PORT if way is Way.PLAIN else HTTPS_PORT)
        plain = socket.create_connection(at or ours, timeout=SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with plain:
        if way in {Way.PLAIN, Way.PLAIN_TO_TLS}:
            yield plain
            return
        context = tls_context()
        if protocols:
            context.set_alpn_protocols(protocols)
        with context.wrap_socket(plain, server_hostname=name) as connection:
            yield connection


class Answers(io.BytesIO):
    """What came over one connection, to be read as one answer after the other."""

    def makefile(self, _mode: str) -> Answers:
        return self

    def close(self) -> None:
        """Reading one answer does not end the others."""


def received(connection: socket.socket, method: str) -> bytes:
    """All until the edge closes the connection, or has said that it will: it may wait for more of a request that it refused."""
    data = b""
    with suppress(ConnectionError, ssl.SSLError):
        while piece := connection.recv(65536):
            data += piece
            replies = parsed(data, method)
            if replies[-1].status >= 0 and replies[-1].all("connection") == ["close"]:
                break
    return data


def parsed(data: bytes, method: str = "GET") -> list[Reply]:
    """The answers in what came; what is none has the status -1."""
    stream = Answers(data)
    replies: list[Reply] = []
    while stream.tell() < len(data):
        start = stream.tell()
        # Of a socket it wants makefile alone.
        response = http.client.HTTPResponse(cast("socket.socket", stream), method=method)
        try:
            response.begin()
            body = response.read()
        except http.client.HTTPException:
            return [*replies, Reply(-1, body=data[start:])]
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        replies.append(Reply(response.status, headers, body))
    return replies


def say(data: bytes | Iterable[bytes], way: Way = Way.SOCKET, method: str = "GET", at: Address | None = None) -> list[Reply]:
    """Send bytes as they are and read every answer until the edge closes the connection."""
    with connected(way, ["http/1.1"], at=at) as connection:
        # It may have answered and closed before all was sent.
        with suppress(ConnectionError, ssl.SSLError):
            for piece in [data] if isinstance(data, bytes) else data:
                connection.sendall(piece)
        return parsed(received(connection, method), method)


def head(request: Request, *more: str) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {request.host}", "Connection: close", *more]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in request.headers), "", ""]).encode("latin-1")


def chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), FRAME_SIZE):
        piece = body[start : start + FRAME_SIZE]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def ask_1(request: Request, way: Way = Way.SOCKET, at: Address | None = None) -> Reply:
    """One answer over HTTP/1.1."""
    if request.chunked:
        data: list[bytes] = [head(request, "Transfer-Encoding: chunked"), *chunks(request.body)]
    elif request.declared is not None or request.body:
        declared = len(request.body) if request.declared is None else request.declared
        data = [head(request, f"Content-Length: {declared}"), request.body]
    else:
        data = [head(request)]
    replies = say(data, way, request.method, at)
    assert len(replies) <= 1, replies
    return replies[0] if replies else Reply(CLOSED)


@dataclass
class Stream:
    """What has come on one stream."""

    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    def reply(self, reason: int | None) -> Reply:
        found = dict(self.headers)
        return Reply(
            int(found.get(":status", CLOSED)),
            tuple((name, value) for name, value in self.headers if not name.startswith(":")),
            self.body,
            reason if self.reset is None else self.reset,
        )


@dataclass
class Http2:
    """A connection in HTTP/2 that sends any frame and believes what it gets."""

    connection: socket.socket
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)
    streams: dict[int, Stream] = field(default_factory=dict)
    windows: dict[int, int] = field(default_factory=dict)
    first_window: int = 65535
    reason: int | None = None
    closed: bool = False
    pongs: int = 0
    block: tuple[int, bytes] = (0, b"")

    def begin(self) -> None:
        settings = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: WINDOW, SettingsFrame.ENABLE_PUSH: 0})
        self.send(PREFACE, settings, WindowUpdateFrame(0, window_increment=WINDOW))

    def send(self, *parts: Frame | bytes) -> None:
        """Frames, or bytes as they are; the edge may have gone away meanwhile."""
        data = b"".join(part if isinstance(part, bytes) else part.serialize() for part in parts)
        try:
            self.connection.sendall(data)
        except (ConnectionError, ssl.SSLError):
            self.closed = True

    def header_frames(self, stream: int, headers: Headers, *, end: bool) -> list[Frame]:
        # Nothing goes into the table, so that a frame need not be sent for the next one to be understood.
        fields = [(as_bytes(name), as_bytes(value), True) for name, value in headers]
        block = self.encoder.encode(fields)
        pieces = [block[start : start + FRAME_SIZE] for start in range(0, len(block), FRAME_SIZE)] or [b""]
        frames: list[Frame] = [HeadersFrame(stream, pieces[0]), *(ContinuationFrame(stream, piece) for piece in pieces[1:])]
        frames[-1].flags.add("END_HEADERS")
        if end:
            frames[0].flags.add("END_STREAM")
        return frames

    def start(self, stream: int, headers: Headers, *, end: bool = True) -> None:
        self.streams[stream] = Stream()
        self.windows[stream] = self.first_window
        self.send(*self.header_frames(stream, headers, end=end))

    def send_body(self, stream: int, body: bytes, trailers: Headers = ()) -> None:
        """As much as the edge lets in before it answers."""
        sent = 0
        while sent < len(body) and not self.over(stream):
            room = min(FRAME_SIZE, self.windows[stream], len(body) - sent)
            if room <= 0:
                self.read()
                continue
            piece = body[sent : sent + room]
            sent += len(piece)
            self.windows[stream] -= len(piece)
            frame = DataFrame(stream, piece)
            if sent == len(body) and not trailers:
                frame.flags.add("END_STREAM")
            self.send(frame)
        if trailers:
            self.send(*self.header_frames(stream, trailers, end=True))

    def over(self, stream: int) -> bool:
        found = self.streams[stream]
        return self.closed or found.ended or found.reset is not None

    def read(self) -> None:
        """Take one frame."""
        start = self.exactly(9)
        if self.closed:
            return
        try:
            frame, length = Frame.parse_frame_header(memoryview(start))
            data = self.exactly(length)
            frame.parse_body(memoryview(data))
            self.take(frame)
        except (HyperframeError, HPACKError) as error:
            raise AssertionError(f"the edge sent a frame that is none: {start!r}") from error

    def exactly(self, length: int) -> bytes:
        data = b""
        try:
            while len(data) < length and (piece := self.connection.recv(length - len(data))):
                data += piece
        except (ConnectionError, ssl.SSLError):
            data = b""
        self.closed = self.closed or len(data) < length
        return data

    def take(self, frame: Frame) -> None:
        stream = self.streams.setdefault(frame.stream_id, Stream())
        match frame:
            case SettingsFrame():
                if "ACK" not in frame.flags:
                    window = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self.first_window)
                    self.windows = {name: room + window - self.first_window for name, room in self.windows.items()}
                    self.first_window = window
                    self.send(SettingsFrame(0, flags=["ACK"]))
            case WindowUpdateFrame():
                if frame.stream_id:
                    self.windows[frame.stream_id] += frame.window_increment
            case HeadersFrame() | ContinuationFrame():
                begun = self.block[1] if isinstance(frame, ContinuationFrame) else b""
                self.block = (frame.stream_id, begun + frame.data)
                stream.ended = stream.ended or "END_STREAM" in frame.flags
                if "END_HEADERS" in frame.flags:
                    decoded = self.decoder.decode(self.block[1], raw=True)
                    stream.headers = tuple(
                        (bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in decoded
                    )
            case DataFrame():
                stream.body += frame.data
                stream.ended = stream.ended or "END_STREAM" in frame.flags
            case RstStreamFrame():
                stream.reset = frame.error_code
            case GoAwayFrame():
                self.reason = frame.error_code
            case PingFrame():
                self.pongs += "ACK" in frame.flags
            case _:
                pass

    def reply(self, stream: int) -> Reply:
        """The answer on a stream, when it is whole or will never be."""
        while not self.over(stream):
            self.read()
        return self.streams[stream].reply(self.reason)

    def status(self, stream: int) -> int:
        """The answer's status as soon as it is known."""
        while not (self.over(stream) or self.streams[stream].headers):
            self.read()
        return self.streams[stream].reply(self.reason).status

    def drain(self) -> None:
        """All until the edge closes the connection."""
        while not self.closed:
            self.read()


def as_text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


@contextmanager
def http2(way: Way = Way.SOCKET, at: Address | None = None) -> Iterator[Http2]:
    with connected(way, ["h2"], at=at) as connection:
        client = Http2(connection)
        client.begin()
        yield client


def fields(request: Request, scheme: str = "https") -> list[tuple[str, str]]:
    """A request's headers as HTTP/2 writes them."""
    pseudo = [(":method", request.method), (":scheme", scheme), (":authority", request.host), (":path", request.target)]
    declared = [] if request.declared is None else [("content-length", str(request.declared))]
    return [*pseudo, *((name.lower(), value) for name, value in request.headers), *declared]


def ask_2(request: Request, way: Way = Way.SOCKET, at: Address | None = None) -> Reply:
    """One answer over HTTP/2; where there is no TLS the client just begins with it."""
    with http2(way, at) as client:
        waits = request.declared is not None or bool(request.body)
        client.start(1, fields(request, "http" if way is Way.PLAIN else "https"), end=not waits)
        if request.body:
            client.send_body(1, request.body)
        return client.reply(1)


@contextmanager
def crowd(request: Request) -> Iterator[None]:
    """Others from the same address meanwhile, who use up what it may ask: more at once than any limit of requests allows."""
    ending = threading.Event()

    def ask_for_many() -> None:
        while not ending.is_set():
            with http2(Way.TLS) as client:
                streams = range(1, 2 * 60, 2)
                for stream in streams:
                    client.start(stream, fields(request))
                for stream in streams:
                    client.reply(stream)

    thread = threading.Thread(target=ask_for_many)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(SECONDS)


def limited(request: Request, version: int) -> Reply:
    """The answer to a request that is one too many."""
    with crowd(request):
        replies = ((ask_1 if version == 1 else ask_2)(request, Way.TLS) for _ in range(300))
        return next(reply for reply in replies if reply.status == 429)
