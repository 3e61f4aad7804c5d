"""Where errors that nobody foresaw end: logged once, and a 500 that a page of another origin may read."""

import asyncio

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall_service.error_handlers import error_response, internal_error_response
from seawall_service.errors import RETRY_SOON, ErrorId

log = structlog.get_logger(__name__)


class BoundaryMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def note_beginning(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, note_beginning)
        except asyncio.CancelledError:
            # By the server, at the end of the grace period of a shutdown; what it would answer by itself has no envelope.
            if begun:
                raise
            log.warning("request.failed", code=ErrorId.SERVICE_UNAVAILABLE, reason="the service is shutting down")
            refusal = error_response(503, ErrorId.SERVICE_UNAVAILABLE, "The service is shutting down", headers=RETRY_SOON)
            await refusal(scope, receive, send)
        except Exception:
            log.exception("request.failed")
            # An answer that has begun cannot become a 500: it stays unfinished, and the server cuts the connection.
            if not begun:
                await internal_error_response()(scope, receive, send)
