"""What a WebSocket gets of what requests get: its id in the answer, errors in the envelope, one access line."""

import time

import structlog
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from seawall_service.error_handlers import error_response, internal_error_response
from seawall_service.errors import ErrorId

log = structlog.get_logger("seawall_service.access")

DENIAL = "websocket.http.response"
SWITCHED = 101
INTERNAL_ERROR = 1011


async def deny(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers an upgrade; a server that can send no answer closes, which clients see as 403."""
    if DENIAL in scope.get("extensions", {}):
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})


class SocketObserver:
    """Stands between the server and the application for one socket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self.scope = scope
        self.status = 0
        self.close_code: int | None = None
        self.received = 0
        self.sent = 0
        # What was raised to say that nobody listens any more.
        self.lost: OSError | None = None
        self._receive = receive
        self._send = send
        self._request_id = request_id

    @property
    def accepted(self) -> bool:
        return self.status == SWITCHED

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.receive":
            self.received += 1
        elif message["type"] == "websocket.disconnect" and self.close_code is None:
            self.close_code = message.get("code")
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        status = 0
        if kind == "websocket.send":
            self.sent += 1
        elif kind in {"websocket.accept", f"{DENIAL}.start"}:
            status = SWITCHED if kind == "websocket.accept" else message["status"]
            message.setdefault("headers", [])
            MutableHeaders(scope=message)["X-Request-ID"] = self._request_id
        elif kind == "websocket.close" and self.accepted:
            self.close_code = message.get("code")
        elif kind == "websocket.close" and not self.status:
            await self.deny(self.bare_refusal())
            return
        try:
            await self._send(message)
        except OSError as error:
            self.lost = error
            raise
        self.status = status or self.status

    def bare_refusal(self) -> Response:
        """Of the framework, which says nothing but no."""
        if "route" in self.scope:
            return error_response(403, ErrorId.FORBIDDEN, "Forbidden")
        return error_response(404, ErrorId.NOT_FOUND, "Not Found")

    async def deny(self, response: Response) -> None:
        # Before: a close without a status is what this is called for.
        self.status = response.status_code
        await deny(response, self.scope, self.receive, self.send)

    async def fail(self) -> None:
        """After an error that nobody foresaw."""
        if self.accepted and self.close_code is None:
            await self.send({"type": "websocket.close", "code": INTERNAL_ERROR})
        elif not self.status:
            await self.deny(internal_error_response())


async def run_socket(app: ASGIApp, observer: SocketObserver, client_ip: str | None) -> None:
    started = time.perf_counter()
    try:
        await app(observer.scope, observer.receive, observer.send)
    except WebSocketDisconnect:
        # While the upgrade was still being answered.
        pass
    except Exception as error:
        # A client that is gone before its refusal is no failure.
        if error is not observer.lost:
            log.exception("websocket.failed")
            await observer.fail()
    finally:
        principal = observer.scope["state"].get("principal_id")
        log.info(
            "websocket.closed",
            path=observer.scope["path"],
            status=observer.status,
            close_code=observer.close_code,
            duration_ms=round((time.perf_counter() - started) * 1000, 2),
            received=observer.received,
            sent=observer.sent,
            client_ip=client_ip,
            principal_id=str(principal) if principal else None,
        )
