"""Whose pages may open a socket."""

from typing import Annotated, cast

import structlog
from fastapi import Depends
from starlette.requests import HTTPConnection

from seawall_service.errors import ForbiddenError
from seawall_service.realtime.hub import Hub

log = structlog.get_logger(__name__)

EVERYBODY = "*"


def hub_of(connection: HTTPConnection) -> Hub:
    return cast("Hub", connection.state.live)


async def require_allowed_origin(connection: HTTPConnection) -> None:
    """Before everything else (WS-03). Browsers always send it; what is no browser may leave it out."""
    allowed = hub_of(connection).allowed_origins
    origins = connection.headers.getlist("origin")
    if EVERYBODY not in allowed and any(origin.lower() not in allowed for origin in origins):
        log.warning("websocket.origin_refused", origin=origins[0][:200])
        raise ForbiddenError("Pages of this origin may not connect")


AllowedOrigin = Annotated[None, Depends(require_allowed_origin)]
