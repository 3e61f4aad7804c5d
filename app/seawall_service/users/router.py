"""/api/v1/users: the caller's own user, and those of its documents."""

from uuid import UUID

from fastapi import APIRouter

from seawall_service.deps import Context, CurrentUserId, DbSession, SharedCache
from seawall_service.idempotency.service import Keyed, run_once
from seawall_service.users import service
from seawall_service.users.commands import UpdateUser
from seawall_service.users.queries import GetMe, GetUser
from seawall_service.users.schemas import UpdateUserRequest, UserPublicResponse, UserResponse

router = APIRouter(prefix="/api/v1/users", tags=["users"])


@router.get("/me")
async def get_me(principal_id: CurrentUserId, connection: DbSession) -> UserResponse:
    """The user that the access token belongs to."""
    return await service.get_me(connection, GetMe(), principal_id)


@router.get("/{user_id}")
async def get_user(user_id: UUID, principal_id: CurrentUserId, connection: DbSession, cache: SharedCache) -> UserPublicResponse:
    """Oneself, or somebody who shares a document with the caller."""
    return await service.get_user(connection, cache, GetUser(user_id), principal_id)


@router.patch("/{user_id}")
async def update_user(
    user_id: UUID,
    body: UpdateUserRequest,
    principal_id: CurrentUserId,
    connection: DbSession,
    context: Context,
) -> UserPublicResponse:
    """Change one's own user; `forbidden` for anybody else's."""
    command = UpdateUser(user_id, body.display_name)
    user = await run_once(
        connection,
        Keyed(principal_id, context.idempotency_key, "UpdateUser", user_id.bytes + body.as_sent()),
        UserPublicResponse,
        lambda: service.update_user(connection, command, principal_id, context),
    )
    context.forget_after_commit(service.cache_key(user_id))
    return user
