"""What attacks in HTTP/2: rows of one stream each, and floods that are bounded in number and time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from edge_wire import Headers, Http2, Request, fields
from hostile_requests import ACCEPTED, BODY, FOREIGN_ADDRESS, HUNG_UP, REFUSED, SMUGGLED, STRANGER, TARGET
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

# Enough to be a flood, and over in a moment.
MANY = 3000
STREAMS = 300
NO_ERROR, CANCEL = 0, 8


@dataclass(frozen=True)
class Frames:
    """What is sent on a new connection; the answer that counts is the one on stream 1."""

    name: str
    send: Callable[[Http2, Headers], None]
    statuses: frozenset[int]
    reaches: bool = False

    @property
    def marker(self) -> str:
        return f"hostile-{zlib.crc32(self.name.encode()):08x}"


def base(token: str, marker: str) -> Headers:
    """The headers of a good request by a signed-in user."""
    return [*fields(Request(TARGET)), ("authorization", token), ("x-request-id", marker)]


def added(client: Http2, good: Headers, *, more: Headers) -> None:
    client.start(1, [*good, *more])


def changed(client: Http2, good: Headers, *, pseudo: dict[str, str | bytes | None]) -> None:
    """Other pseudo headers; None leaves one out."""
    client.start(
        1, [(name, pseudo.get(str(name), value) or value) for name, value in good if pseudo.get(str(name), "") is not None]
    )


def posted(client: Http2, good: Headers, *, more: Headers, body: bytes = b"hello", trailers: Headers = ()) -> None:
    wanted = {":method": "POST", ":path": "/api/v1/documents"}
    client.start(1, [*((name, wanted.get(str(name), value)) for name, value in good), *more], end=False)
    client.send_body(1, body, trailers)


def frames(
    client: Http2, good: Headers, *, before: tuple[Frame | bytes, ...] = (), after: tuple[Frame | bytes, ...] = ()
) -> None:
    client.send(*before)
    client.start(1, good)
    client.send(*after)


def raw(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """A frame that no library would write."""
    return (
        struct.pack(">I", len(payload) if length is None else length)[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream)
        + payload
    )


INJECTED = f"x\r\nx-principal-id: {STRANGER}"
INNER = f"x\r\n\r\nGET {SMUGGLED} HTTP/1.1\r\nHost: localhost\r\nX-Principal-Id: {STRANGER}\r\n\r\n"

HEADERS_ADDED: dict[str, tuple[Headers, frozenset[int], bool]] = {
    "principal": ([("x-principal-id", STRANGER)], ACCEPTED, True),
    "principal twice": ([("x-principal-id", STRANGER)] * 2, ACCEPTED, True),
    "principal with underscores": ([("x_principal_id", STRANGER)], ACCEPTED, True),
    "principal in capitals": ([("X-Principal-Id", STRANGER)], REFUSED, False),
    "principal as a pseudo header": ([(":x-principal-id", STRANGER)], REFUSED, False),
    "principal with a blank": ([("x-principal-id ", STRANGER)], REFUSED, False),
    "principal in a value": ([("x-other", INJECTED)], REFUSED, False),
    "principal in a name": ([(INJECTED, "x")], REFUSED, False),
    "request in a value": ([("x-other", INNER)], REFUSED, False),
    "request in a name": ([(INNER, "x")], REFUSED, False),
    "name with a colon": ([("x-principal-id: x", "x")], REFUSED, False),
    "name with a NUL": ([("x-\x00", "x")], REFUSED, False),
    "empty name": ([("", "x")], HUNG_UP, False),
    "value with a NUL": ([("x-other", "a\x00b")], REFUSED, False),
    "value with a line feed": ([("x-other", "a\nb")], REFUSED, False),
    "value with a carriage return": ([("x-other", "a\rb")], REFUSED, False),
    "pseudo header at the end": ([(":path", "/metrics")], REFUSED, False),
    "unknown pseudo header": ([(":protocol", "websocket")], REFUSED, False),
    "connection": ([("connection", "close, x-principal-id")], frozenset({200, 400}), True),
    "transfer-encoding": ([("transfer-encoding", "chunked")], frozenset({200, 400, 501}), True),
    "upgrade": ([("upgrade", "websocket"), ("connection", "upgrade")], frozenset({200, 400}), True),
    "keep-alive": ([("keep-alive", "timeout=1000")], ACCEPTED, True),
    "proxy-connection": ([("proxy-connection", "keep-alive")], ACCEPTED, True),
    "te": ([("te", "gzip")], ACCEPTED, True),
    "another host": ([("host", "other.example")], frozenset({200, 400}), True),
    "two lengths": ([("content-length", "0"), ("content-length", "5")], REFUSED, False),
    "length with a sign": ([("content-length", "+0")], REFUSED, False),
    "negative length": ([("content-length", "-1")], REFUSED, False),
    "forwarded": ([("x-forwarded-for", FOREIGN_ADDRESS), ("forwarded", f"for={FOREIGN_ADDRESS}")], ACCEPTED, True),
    "101 headers": ([(f"x-{number}", "a") for number in range(101)], frozenset({431}), False),
    "20 cookies": ([("cookie", f"a{number}=b") for number in range(20)], ACCEPTED, True),
    "5000 cookies": ([("cookie", "a=b")] * 5000, frozenset({0, 400, 431}), False),
    "a large header": ([("x-large", "a" * 20000)], HUNG_UP, False),
}
PSEUDO: dict[str, tuple[dict[str, str | bytes | None], frozenset[int], bool]] = {
    "no method": ({":method": None}, REFUSED, False),
    "no path": ({":path": None}, REFUSED, False),
    "no scheme": ({":scheme": None}, REFUSED, False),
    "no authority": ({":authority": None}, REFUSED, False),
    "path without a slash": ({":path": "api/v1/users/me"}, REFUSED, False),
    "absolute path": ({":path": f"https://localhost{TARGET}"}, REFUSED, False),
    "asterisk": ({":path": "*"}, REFUSED, False),
    "path with a blank": ({":path": f"{TARGET} HTTP/1.1"}, REFUSED, False),
    "path with a request": ({":path": f"{TARGET} HTTP/1.1\r\n{INNER}"}, REFUSED, False),
    "path with a NUL": ({":path": f"{TARGET}\x00"}, REFUSED, False),
    "path to a hidden place": ({":path": "/api/v1/..%2f..%2fmetrics"}, frozenset({400, 404}), False),
    "hidden path": ({":path": "/metrics"}, frozenset({404}), False),
    "method with a blank": ({":method": "GET /x"}, REFUSED, False),
    "method with a request": ({":method": f"GET {SMUGGLED} HTTP/1.1\r\nHost: x\r\n\r\n"}, REFUSED, False),
    "method in small letters": ({":method": "get"}, frozenset({400, 405}), False),
    "authority of another": ({":authority": "other.example"}, ACCEPTED, True),
    "authority with a path": ({":authority": "localhost/x"}, REFUSED, False),
    "authority with a line break": ({":authority": f"localhost\r\nX-Principal-Id: {STRANGER}"}, REFUSED, False),
    "authority with a user": ({":authority": "admin@localhost"}, frozenset({200, 400}), True),
    "another scheme": ({":scheme": "ftp"}, frozenset({200, 400}), True),
    "scheme with a line break": ({":scheme": f"https\r\nX-Principal-Id: {STRANGER}"}, REFUSED, False),
}
PING = PingFrame(0, b"12345678")
FRAMING: dict[str, tuple[Frame | bytes, ...]] = {
    "data before headers": (DataFrame(1, b"hello"),),
    "headers on a stream of the edge's": (raw(1, 5, 2, b"\x82"),),
    "headers on no stream": (raw(1, 5, 0, b"\x82"),),
    "data on no stream": (raw(0, 1, 0, b"hello"),),
    "a continuation of nothing": (ContinuationFrame(1, b"\x82"),),
    "settings of half a setting": (raw(4, 0, 0, b"\x00\x01\x00"),),
    "settings on a stream": (raw(4, 0, 1, b""),),
    "a window beyond its end": (raw(4, 0, 0, struct.pack(">HI", 4, 0xFFFFFFFF)),),
    "frames larger than allowed": (raw(4, 0, 0, struct.pack(">HI", 5, 1)),),
    "a short ping": (raw(6, 0, 0, b"1234"),),
    "a window update by nothing": (raw(8, 0, 0, b"\x00\x00\x00\x00"),),
    "a short window update": (raw(8, 0, 0, b"\x00"),),
    "a window update too many": (WindowUpdateFrame(0, window_increment=0x7FFFFFFF),) * 2,
    "a reset of nothing": (RstStreamFrame(1, CANCEL),),
    "a push": (raw(5, 4, 1, b"\x00\x00\x00\x02\x82"),),
    "a frame too long": (raw(0, 0, 1, b"x" * 20000),),
    "padding longer than its frame": (raw(1, 0x0D, 1, b"\xff\x82"),),
    "a stream that depends on itself": (raw(2, 0, 1, b"\x00\x00\x00\x01\x10"),),
    "an index of no table": (raw(1, 5, 1, b"\xff\xff\xff\xff\x0f"),),
    "broken Huffman code": (raw(1, 5, 1, b"\x40\x84\xff\xff\xff\xff\x01a"),),
    "a table larger than allowed": (raw(1, 5, 1, b"\x3f\xe1\xff\xff\x7f\x82"),),
    "an empty block": (raw(1, 5, 1, b""),),
}


# Headers, body and trailers of a POST; the service refuses such a body where it comes to it.
BODIES: dict[str, tuple[Headers, bytes, Headers]] = {
    "less body than it says": ([("content-length", "10")], b"hello", []),
    "more body than it says": ([("content-length", "1")], b"hello", []),
    "a request in the body": ([], INNER.encode(), []),
    "a coding and a request in the body": ([("transfer-encoding", "chunked")], BODY + INNER.encode(), []),
    "trailer with a principal": ([], b"hello", [("x-principal-id", STRANGER)]),
    "trailer that is a pseudo header": ([], b"hello", [(":path", SMUGGLED)]),
    "trailer with a request": ([], b"hello", [("x-other", INNER)]),
}
# nginx takes these for what is left of a stream that is over.
ENDURED = {"data before headers", "a reset of nothing", "a frame too long"}


def rows() -> Iterator[Frames]:
    for name, (more, statuses, reaches) in HEADERS_ADDED.items():
        yield Frames(f"h2 {name}", partial(added, more=more), statuses, reaches)
    for name, (pseudo, statuses, reaches) in PSEUDO.items():
        yield Frames(f"h2 {name}", partial(changed, pseudo=pseudo), statuses, reaches)
    for name, before in FRAMING.items():
        endured = name in ENDURED
        yield Frames(f"h2 {name}", partial(frames, before=before), frozenset({0, 200 if endured else 400}), endured)
    yield Frames(
        "h2 unknown frames are ignored", partial(frames, before=(raw(0xEE, 0xFF, 1, b"x" * 100),) * 10), ACCEPTED, reaches=True
    )
    yield Frames(
        "h2 settings that nobody knows", partial(frames, before=(raw(4, 0, 0, b"\xff\xff\0\0\0\0"),)), ACCEPTED, reaches=True
    )
    yield Frames(
        "h2 frames for a stream that is over",
        partial(frames, after=(PING, DataFrame(1, b"x"))),
        frozenset({0, 200}),
        reaches=True,
    )
    for name, (more, body, trailers) in BODIES.items():
        send = partial(posted, more=more, body=body, trailers=trailers)
        yield Frames(f"h2 {name}", send, frozenset({0, 400, 422, 501}), reaches=more == [] or name.startswith("a coding"))


def rapid_reset(client: Http2, good: Headers) -> None:
    for stream in range(1, 2 * STREAMS, 2):
        client.start(stream, good)
        client.send(RstStreamFrame(stream, CANCEL))


def streams_without_end(client: Http2, good: Headers) -> None:
    for stream in range(1, 2 * STREAMS, 2):
        client.start(stream, [*good, ("content-length", "5")], end=False)


def answers_not_taken(client: Http2, good: Headers) -> None:
    client.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
    for stream in range(1, 2 * STREAMS, 2):
        client.start(stream, good)


def continuations(client: Http2, _: Headers, *, piece: bytes) -> None:
    client.send(HeadersFrame(1, b""))
    for _number in range(MANY):
        client.send(ContinuationFrame(1, piece))


def table_bomb(client: Http2, _: Headers) -> None:
    """A header of 3 kB in the table, named a thousand times by one byte each."""
    entry = b"\x40\x06x-bomb\x7f\xb9\x16" + b"a" * 3000
    client.send(raw(1, 1, 1, b"\x82\x87\x84\x41\x09localhost" + entry))
    client.send(raw(9, 4, 1, b"\xbe" * 1000))


def repeated(client: Http2, good: Headers, *, frame: Frame | bytes, first: bool = False) -> None:
    if first:
        client.start(1, [*good, ("content-length", "5")], end=False)
    data = frame if isinstance(frame, bytes) else frame.serialize()
    for _ in range(MANY // 100):
        client.send(data * 100)


FLOODS: dict[str, Callable[[Http2, Headers], None]] = {
    "rapid reset": rapid_reset,
    "streams without an end": streams_without_end,
    "answers that are not taken": answers_not_taken,
    "continuations": partial(continuations, piece=b"\x00\x01a\x01b"),
    "empty continuations": partial(continuations, piece=b""),
    "a table that grows": table_bomb,
    "pings": partial(repeated, frame=PING),
    "settings": partial(repeated, frame=SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535})),
    "window updates": partial(repeated, frame=WindowUpdateFrame(0, window_increment=1)),
    "priorities": partial(repeated, frame=PriorityFrame(1, depends_on=3, stream_weight=1)),
    "empty data": partial(repeated, frame=DataFrame(1, b""), first=True),
    "unknown frames": partial(repeated, frame=raw(0xEE, 0, 0, b"")),
}
