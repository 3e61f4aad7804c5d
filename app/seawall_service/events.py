"""The append-only record: who did what to which stream. Passwords and the text of entries are not in it."""

from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Jsonb

from seawall_service.correlation import get_request_id
from seawall_service.db.pool import Connection
from seawall_service.errors import JsonValue


@dataclass(frozen=True, slots=True)
class Event:
    stream_id: UUID
    stream_version: int
    type: str
    payload: dict[str, JsonValue]
    principal_id: UUID


async def append_event(connection: Connection, event: Event) -> None:
    """UNIQUE (stream_id, stream_version) refuses a second writer of the same version."""
    await connection.execute(
        """
        INSERT INTO events (stream_id, stream_version, type, payload, principal_id, request_id)
        VALUES (%s, %s, %s, %s, %s, %s)
        """,
        (event.stream_id, event.stream_version, event.type, Jsonb(event.payload), event.principal_id, get_request_id() or None),
    )
