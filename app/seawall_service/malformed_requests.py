"""What is no HTTP gets the envelope too; it never becomes a request, so no middleware sees it."""

from uuid import uuid4

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seawall_service.error_handlers import error_response
from seawall_service.errors import ErrorId

log = structlog.get_logger(__name__)


class EnvelopeHttpProtocol(HttpToolsProtocol):
    def send_400_response(self, msg: str) -> None:
        with structlog.contextvars.bound_contextvars(request_id=(request_id := str(uuid4()))):
            log.info("request.denied", code=ErrorId.BAD_REQUEST, reason=msg)
            closing = {"X-Request-ID": request_id, "Connection": "close"}
            response = error_response(400, ErrorId.BAD_REQUEST, msg, headers=closing)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + bytes(response.body))
        self.transport.close()
