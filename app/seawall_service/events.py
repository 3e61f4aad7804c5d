"""The append-only record: who did what to which stream. Passwords and the text of entries are not in it."""

from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Jsonb

from seawall_service.audit import service as audit
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


INSERT = """
INSERT INTO events (stream_id, stream_version, type, payload, principal_id, request_id)
VALUES (%s, %s, %s, %s, %s, %s)
"""
# One statement for both rows is one question to the database less.
INSERT_AUDITED = f"WITH audited AS ({audit.INSERT}) {INSERT}"


async def append_event(connection: Connection, event: Event, audited: tuple[object, ...] | None = None) -> None:
    """The event, and with it the row that the audit keeps of it, if any.

    UNIQUE (stream_id, stream_version) refuses a second writer of the same version.
    """
    row = (
        event.stream_id,
        event.stream_version,
        event.type,
        Jsonb(event.payload),
        event.principal_id,
        get_request_id() or None,
    )
    if audited is None:
        await connection.execute(INSERT, row)
    else:
        await connection.execute(INSERT_AUDITED, audited + row)
