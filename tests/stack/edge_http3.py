"""A client without manners for HTTP/3, beside those of edge_wire."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol, QuicStreamHandler
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset
from edge_answers import CLOSED, Reply
from edge_wire import FRAME_SIZE, Request, Stream, as_bytes, fields
from installation import HTTPS_PORT, ROOT

SECONDS = 20


@dataclass
class Exchange:
    """One request's answer as it comes; done when it is whole or will never be."""

    stream: Stream = field(default_factory=Stream)
    reason: int | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Http3(QuicConnectionProtocol):
    """A connection that keeps what came on each of its streams."""

    def __init__(self, connection: QuicConnection, stream_handler: QuicStreamHandler | None = None) -> None:
        super().__init__(connection, stream_handler)
        self.http = H3Connection(connection)
        self.exchanges: dict[int, Exchange] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case StreamReset(stream_id=stream, error_code=code) if stream in self.exchanges:
                self.exchanges[stream].stream.reset = code
                self.exchanges[stream].done.set()
            case ConnectionTerminated(error_code=code):
                for exchange in self.exchanges.values():
                    exchange.reason = code
                    exchange.done.set()
            case _:
                pass
        for told in self.http.handle_event(event):
            self.take(told)

    def take(self, event: H3Event) -> None:
        match event:
            case HeadersReceived(headers=headers, stream_id=stream, stream_ended=ended):
                found = self.exchanges[stream]
                found.stream.headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
            case DataReceived(data=data, stream_id=stream, stream_ended=ended):
                found = self.exchanges[stream]
                found.stream.body += data
            case _:
                return
        if ended:
            found.done.set()

    async def ask(self, request: Request) -> Reply:
        number = self._quic.get_next_available_stream_id()
        exchange = self.exchanges[number] = Exchange()
        waits = request.declared is not None or bool(request.body)
        headers = [(as_bytes(name), as_bytes(value)) for name, value in fields(request)]
        self.http.send_headers(number, headers, end_stream=not waits)
        for start in range(0, len(request.body), FRAME_SIZE):
            piece = request.body[start : start + FRAME_SIZE]
            self.http.send_data(number, piece, end_stream=start + len(piece) == len(request.body))
        self.transmit()
        try:
            await asyncio.wait_for(exchange.done.wait(), SECONDS)
        except TimeoutError:
            return Reply(CLOSED)
        return exchange.stream.reply(exchange.reason)


async def one_answer(request: Request) -> Reply:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(str(ROOT / "tls/ca.pem"))
    async with connect("127.0.0.1", HTTPS_PORT, configuration=configuration, create_protocol=Http3) as client:
        assert isinstance(client, Http3)
        return await client.ask(request)


def ask_3(request: Request) -> Reply:
    """One answer over HTTP/3, on a connection of its own."""
    return asyncio.run(one_answer(request))
