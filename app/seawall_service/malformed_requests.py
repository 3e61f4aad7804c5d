"""What is no HTTP, or no upgrade, gets the envelope too; it never becomes a request, so no middleware sees it."""

import logging
from asyncio import BaseTransport
from http import HTTPStatus
from uuid import uuid4

import structlog
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, Request, Response
from websockets.server import ServerProtocol

from seawall_service.error_handlers import error_response
from seawall_service.errors import RETRY_SOON, id_of_status
from seawall_service.middleware.context import VALID_REQUEST_ID

log = structlog.get_logger(__name__)

# Above what the edge lets through (4 times 8 KiB), for whoever runs the image without one.
MAX_FIELD_BYTES = 65_536
# Of a line in the head of an upgrade, without what stands around an address or a value in it.
MAX_LINE = MAX_LINE_LENGTH - len("GET  HTTP/1.1\r\n")


def refusal(status: int, reason: str, given: str) -> JSONResponse:
    """The answer, logged under the request id that it carries: the given one, as far as the request could be read."""
    request_id = given if VALID_REQUEST_ID.fullmatch(given) else str(uuid4())
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        code = id_of_status(status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("request.failed", code=code, reason=reason)
        else:
            log.info("request.denied", code=code, reason=reason)
        soon = RETRY_SOON if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        return error_response(status, code, reason, headers={"X-Request-ID": request_id} | soon)


def bad_request(reason: str, given: str = "") -> bytes:
    response = refusal(HTTPStatus.BAD_REQUEST, reason, given)
    head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    return b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n" + head + b"\r\n" + bytes(response.body)


class EnvelopeHttpProtocol(HttpToolsProtocol):
    """Bounds what is no body, the head and the trailers, which its server reads as far as memory goes.

    Trailers are dropped (RFC 9110, 6.5.1): among the headers they would say who asks, after the edge has looked.
    """

    in_head = True
    got_further = False
    field_bytes = 0

    def on_message_begin(self) -> None:
        self.in_head, self.field_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.in_head, self.got_further = False, True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.got_further = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        # What comes next is the head of another request.
        self.in_head, self.got_further = True, True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self.got_further = False
        super().data_received(data)
        # Only pieces that are nothing else from their first byte to their last: a body may begin or end in the same one.
        self.field_bytes = 0 if self.got_further else self.field_bytes + len(data)
        if self.field_bytes > MAX_FIELD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's headers are too large")

    def handle_websocket_upgrade(self) -> None:
        """The head alone is handed on, and whoever reads frames after it waits for ever where a body follows."""
        headers = dict(self.headers)
        longest = max(map(len, (self.url, *map(b"".join, self.headers))))
        if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
            self.send_400_response("A request to upgrade has no body")
        elif len(self.headers) > MAX_NUM_HEADERS or longest > MAX_LINE:
            self.send_400_response("The request's headers are too many or too long")
        else:
            super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        # There is no cycle where an upgrade came with a body. A head is of the next request, trailers are of the cycle's.
        cycle = self.cycle
        comes_before = cycle is not None and (not cycle.response_complete if self.in_head else cycle.response_started)
        if self.pipeline or comes_before:
            # Written into or before the answer of another request, this would be taken for a part of that, or for all of it.
            self.transport.close()
            return
        given = dict(self.headers or ()).get(b"x-request-id", b"")
        self.transport.write(bad_request(msg, given.decode("latin-1")))
        self.transport.close()


class EnvelopeHandshake(ServerProtocol):
    request_id = ""

    def accept(self, request: Request) -> Response:
        given = request.headers.get_all("X-Request-ID")
        self.request_id = given[0] if len(given) == 1 else ""
        return super().accept(request)

    def reject(self, status: int, text: str) -> Response:
        answer = refusal(int(status), text.strip(), self.request_id)
        response = super().reject(status, bytes(answer.body).decode())
        # Of websockets' headers one that is set again is there twice.
        del response.headers["Content-Type"]
        for name in ("Content-Type", "X-Request-ID", "Retry-After"):
            if name in answer.headers:
                response.headers[name] = answer.headers[name]
        return response


class EnvelopeWebSocketProtocol(WebSocketsSansIOProtocol):
    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        # Theirs would write queries, headers and frames, which hold tokens and contents; the access line is ours.
        self.logger = logging.getLogger("seawall_service.sockets")
        self.conn = EnvelopeHandshake(
            extensions=self.conn.available_extensions, max_size=self.config.ws_max_size, logger=self.logger
        )

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Theirs waits for ever for the rest of a head that cannot be read.
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(bad_request("Not a request to upgrade"))
            self.transport.close()

    def shutdown(self) -> None:
        """An upgrade that waits for its answer is told to come back; theirs says that something of ours has failed."""
        waits = self.handshake_initiated and not self.handshake_complete and self.initial_response is None
        if waits and not self.transport.is_closing():
            self.conn.send_response(self.conn.reject(HTTPStatus.SERVICE_UNAVAILABLE, "The service is shutting down"))
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
            # Whatever the application answers now, nobody is there to hear it.
            self.handshake_complete = self.disconnected = True
        else:
            super().shutdown()

    def handle_ping(self) -> None:
        """Pongs for a peer that does not read would fill our memory; it is answered again once it does."""
        pong = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(pong))

    def handle_cont(self, event: Frame) -> None:
        # Empty pieces make a message no larger, so its limit never ends them.
        if event.data or event.fin:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Bytes that are no text are the client's fault: theirs logs them as a failure of ours, with its stack."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not is_text(b"".join(self.frames)):
            self.frames = []
            self.conn.send_close(CloseCode.INVALID_DATA)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
