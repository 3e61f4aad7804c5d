"""Who is calling: the user id that the edge set after the auth gateway verified the token."""

from typing import Annotated, cast
from uuid import UUID

import structlog
from fastapi import Depends
from starlette.requests import HTTPConnection

from seawall_service.errors import UnauthorizedError

log = structlog.get_logger(__name__)

HEADER = "x-principal-id"
SYSTEM_PRINCIPAL_ID = UUID("00000000-0000-4000-8000-000000000001")


def parse_principal(value: str) -> UUID | None:
    """Only the canonical spelling: UUID() would also take braces, URNs and missing hyphens."""
    try:
        parsed = UUID(value)
    except ValueError:
        return None
    return parsed if str(parsed) == value.lower() else None


async def get_principal_id(request: HTTPConnection) -> UUID:
    values = request.headers.getlist(HEADER)
    if not values:
        if request.app.state.require_authenticated_principal:
            raise UnauthorizedError("Authentication required")
        principal: UUID | None = SYSTEM_PRINCIPAL_ID
    elif not request.state.peer_trusted:
        log.warning("principal.untrusted_peer")
        raise UnauthorizedError("Authentication required")
    else:
        principal = parse_principal(values[0]) if len(values) == 1 else None
        if principal is None:
            raise UnauthorizedError("Authentication required")
    request.state.principal_id = principal
    return cast("UUID", principal)


CurrentUserId = Annotated[UUID, Depends(get_principal_id)]
