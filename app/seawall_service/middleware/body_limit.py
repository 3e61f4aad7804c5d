"""Refuses bodies that are too large, by Content-Length and by counting what really arrives."""

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall_service.error_handlers import error_response
from seawall_service.errors import ErrorId

log = structlog.get_logger(__name__)


class BodySizeLimitMiddleware:
    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self.limit:
            await self.reject(scope, receive, send)
            return
        received = 0
        answered = False

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                # An HTTPException, since FastAPI turns any other error while reading a body into 400.
                raise HTTPException(413)
            return message

        async def send_unless_too_large(message: Message) -> None:
            nonlocal answered
            if received > self.limit and not answered:
                return
            answered = True
            await send(message)

        try:
            await self.app(scope, count, send_unless_too_large)
        except HTTPException:
            if received <= self.limit:
                raise
        if received > self.limit and not answered:
            await self.reject(scope, receive, send)

    async def reject(self, scope: Scope, receive: Receive, send: Send) -> None:
        log.warning("body_size_limit.rejected", limit=self.limit)
        # The rest of the body is not read, so the connection cannot be used again.
        response = error_response(413, ErrorId.PAYLOAD_TOO_LARGE, "Payload too large", headers={"Connection": "close"})
        await response(scope, receive, send)
