"""Ends a request whose answer has not begun in time; gunicorn's own timeout only sees blocked loops."""

import asyncio

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall_service.error_handlers import error_response
from seawall_service.errors import ErrorId

log = structlog.get_logger(__name__)


class RequestTimeoutMiddleware:
    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline = asyncio.timeout(self.seconds)

        async def lift_when_answering(message: Message) -> None:
            if message["type"] == "http.response.start" and not deadline.expired():
                deadline.reschedule(None)
            await send(message)

        try:
            async with deadline:
                await self.app(scope, receive, lift_when_answering)
        except TimeoutError:
            if not deadline.expired():
                raise
            log.exception("request.timeout", seconds=self.seconds)
            response = error_response(504, ErrorId.GATEWAY_TIMEOUT, "The service took too long")
            await response(scope, receive, send)
