"""Where errors that nobody foresaw end: logged once, and a 500 that a page of another origin may read."""

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall_service.error_handlers import internal_error_response

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
        except Exception:
            log.exception("request.failed")
            # An answer that has begun cannot become a 500: it stays unfinished, and the server cuts the connection.
            if not begun:
                await internal_error_response()(scope, receive, send)
