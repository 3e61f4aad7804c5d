"""Users. Executes, never commits: the caller owns the transaction."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

from seawall_service.db.pool import Connection
from seawall_service.errors import NotFoundError
from seawall_service.events import Event, append_event
from seawall_service.handlers import handling
from seawall_service.users.commands import CreateUser
from seawall_service.users.queries import GetMe
from seawall_service.users.schemas import UserResponse


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


async def find_credentials(connection: Connection, username: str) -> Credentials | None:
    cursor = await connection.execute(
        "SELECT id, password_hash FROM proj_users WHERE username = %s AND disabled_at IS NULL", (username,)
    )
    row = await cursor.fetchone()
    return Credentials(row["id"], row["password_hash"]) if row else None
