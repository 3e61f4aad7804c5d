"""Users. Executes, never commits: the caller owns the transaction."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

import structlog
from pydantic import ValidationError

from seawall_service.audit.service import AuditEvent, audit_row
from seawall_service.cache.interface import Cache
from seawall_service.command_context import CommandContext
from seawall_service.db.pool import Connection
from seawall_service.errors import ForbiddenError, JsonValue, NotFoundError
from seawall_service.events import Event, append_event
from seawall_service.handlers import handling
from seawall_service.users.commands import CreateUser, UpdateUser
from seawall_service.users.queries import GetMe, GetUser
from seawall_service.users.schemas import UserPublicResponse, UserResponse

log = structlog.get_logger(__name__)

CACHED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Credentials:
    user_id: UUID
    password_hash: str = field(repr=False)


async def create_user_unless_known(connection: Connection, command: CreateUser, principal_id: UUID) -> UUID | None:
    """The new user's id, or None when the name is taken."""
    with handling(command, principal_id):
        cursor = await connection.execute(
            """
            INSERT INTO proj_users (id, username, password_hash) VALUES (%s, %s, %s)
            ON CONFLICT (username) DO NOTHING RETURNING id
            """,
            (uuid4(), command.username, command.password_hash),
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        user_id: UUID = row["id"]
        await append_event(connection, Event(user_id, 1, "user.created", {"username": command.username}, principal_id))
        return user_id


async def get_me(connection: Connection, query: GetMe, principal_id: UUID) -> UserResponse:
    with handling(query, principal_id):
        cursor = await connection.execute("SELECT id, username, created_at FROM proj_users WHERE id = %s", (principal_id,))
        row = await cursor.fetchone()
        if row is None:
            raise NotFoundError
        return UserResponse.model_validate(row)


def cache_key(user_id: UUID) -> str:
    return f"users:{user_id}"


async def get_user(connection: Connection, cache: Cache, query: GetUser, principal_id: UUID) -> UserPublicResponse:
    """Who may not see the user does not learn whether there is one, and never reaches the cache (CACHE-02)."""
    with handling(query, principal_id, user_id=query.user_id):
        if query.user_id != principal_id and not await share_a_document(connection, principal_id, query.user_id):
            raise NotFoundError
        found = await cache.look_up(cache_key(query.user_id))
        if found.value is not None:
            try:
                return UserPublicResponse.model_validate_json(found.value)
            except ValidationError:
                # Such as what another release stored.
                log.warning("cache.error", operation="read", reason="ValidationError")
        cursor = await connection.execute("SELECT id, username, display_name FROM proj_users WHERE id = %s", (query.user_id,))
        row = await cursor.fetchone()
        if row is None:
            raise NotFoundError
        user = UserPublicResponse.model_validate(row)
        if found.lease is not None:
            value = user.model_dump_json().encode()
            await cache.fill(cache_key(query.user_id), value, found.lease, at_most_seconds=CACHED_SECONDS)
        return user


async def share_a_document(connection: Connection, one: UUID, other: UUID) -> bool:
    cursor = await connection.execute(
        """
        SELECT 1 AS shared FROM proj_memberships mine JOIN proj_memberships theirs USING (document_id)
         WHERE mine.user_id = %s AND theirs.user_id = %s LIMIT 1
        """,
        (one, other),
    )
    return await cursor.fetchone() is not None


async def update_user(
    connection: Connection, command: UpdateUser, principal_id: UUID, context: CommandContext
) -> UserPublicResponse:
    """The caller has `cache_key` forgotten after the commit."""
    with handling(command, principal_id, user_id=command.user_id):
        if command.user_id != principal_id:
            raise ForbiddenError("Users can change themselves only")
        cursor = await connection.execute(
            """
            UPDATE proj_users SET display_name = %s, version = version + 1 WHERE id = %s
            RETURNING id, username, display_name, version
            """,
            (command.display_name, command.user_id),
        )
        row = await cursor.fetchone()
        if row is None:
            raise NotFoundError
        version = row.pop("version")
        payload: dict[str, JsonValue] = {"display_name": command.display_name}
        changed: dict[str, JsonValue] = {"display_name_len": len(command.display_name)}
        await append_event(
            connection,
            Event(command.user_id, version, "user.updated", payload, principal_id),
            audit_row(context, AuditEvent("user.update", principal_id, None, changed)),
        )
        return UserPublicResponse.model_validate(row)


async def find_credentials(connection: Connection, username: str) -> Credentials | None:
    cursor = await connection.execute(
        "SELECT id, password_hash FROM proj_users WHERE username = %s AND disabled_at IS NULL", (username,)
    )
    row = await cursor.fetchone()
    return Credentials(row["id"], row["password_hash"]) if row else None
