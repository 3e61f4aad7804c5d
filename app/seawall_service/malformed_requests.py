"""What is no HTTP, or no upgrade, gets the envelope too; it never becomes a request, so no middleware sees it."""

import logging
from asyncio import BaseTransport
from http import HTTPStatus
from uuid import uuid4

import structlog
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Response
from websockets.server import ServerProtocol

from seawall_service.error_handlers import error_response
from seawall_service.errors import id_of_status

log = structlog.get_logger(__name__)


def refusal(status: int, reason: str) -> JSONResponse:
    """The answer, logged under the request id that it carries."""
    with structlog.contextvars.bound_contextvars(request_id=(request_id := str(uuid4()))):
        code = id_of_status(status)
        log.info("request.denied", code=code, reason=reason)
        return error_response(status, code, reason, headers={"X-Request-ID": request_id})


class EnvelopeHttpProtocol(HttpToolsProtocol):
    def send_400_response(self, msg: str) -> None:
        response = refusal(HTTPStatus.BAD_REQUEST, msg)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n" + head + b"\r\n" + bytes(response.body))
        self.transport.close()


class EnvelopeHandshake(ServerProtocol):
    def reject(self, status: int, text: str) -> Response:
        answer = refusal(int(status), text.strip())
        response = super().reject(status, bytes(answer.body).decode())
        # Of websockets' headers one that is set again is there twice.
        del response.headers["Content-Type"]
        response.headers.update({name: answer.headers[name] for name in ("Content-Type", "X-Request-ID")})
        return response


class EnvelopeWebSocketProtocol(WebSocketsSansIOProtocol):
    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        # Theirs would write queries, headers and frames, which hold tokens and contents; the access line is ours.
        self.logger = logging.getLogger("seawall_service.sockets")
        self.conn = EnvelopeHandshake(
            extensions=self.conn.available_extensions, max_size=self.config.ws_max_size, logger=self.logger
        )
