"""/api/v1/users: the caller's own user."""

from fastapi import APIRouter

from seawall_service.deps import CurrentUserId, DbSession
from seawall_service.users import service
from seawall_service.users.queries import GetMe
from seawall_service.users.schemas import UserResponse

router = APIRouter(prefix="/api/v1/users", tags=["users"])


@router.get("/me")
async def get_me(principal_id: CurrentUserId, connection: DbSession) -> UserResponse:
    """The user that the access token belongs to."""
    return await service.get_me(connection, GetMe(), principal_id)
