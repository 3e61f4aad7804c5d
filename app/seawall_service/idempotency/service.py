"""A command with a key runs once; its result is stored in the transaction that stored its effect."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from seawall_service.db.pool import Connection
from seawall_service.errors import IdempotencyKeyReusedError

log = structlog.get_logger(__name__)

KEPT_FOR = "24 hours"
PURGED_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Keyed:
    principal_id: UUID
    key: str
    command_name: str
    request: bytes

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.command_name.encode() + b"\0" + self.request).digest()


async def run_once[Result: BaseModel](
    connection: Connection, keyed: Keyed, model: type[Result], command: Callable[[], Awaitable[Result]]
) -> Result:
    stored = await reserve(connection, keyed)
    if stored is not None:
        log.info("idempotency.cache_hit", command_name=keyed.command_name)
        return model.model_validate_json(stored)
    result = await command()
    await connection.execute(
        "UPDATE state_idempotency SET response = %s WHERE principal_id = %s AND key = %s",
        (Jsonb(result.model_dump(mode="json")), keyed.principal_id, keyed.key),
    )
    return result


async def reserve(connection: Connection, keyed: Keyed) -> str | None:
    """None when the command is ours to run, else the stored response.

    A second request with the same key waits here, on the unique index, until the first one has committed or failed.
    """
    await purge_expired(connection)
    cursor = await connection.execute(
        """
        INSERT INTO state_idempotency AS kept (principal_id, key, request_digest, expires_at)
        VALUES (%s, %s, %s, now() + %s::interval)
        ON CONFLICT (principal_id, key) DO UPDATE
           SET request_digest = excluded.request_digest, expires_at = excluded.expires_at, response = NULL
         WHERE kept.expires_at <= now()
        RETURNING key
        """,
        (keyed.principal_id, keyed.key, keyed.digest, KEPT_FOR),
    )
    if await cursor.fetchone() is not None:
        return None
    cursor = await connection.execute(
        "SELECT request_digest, response::text AS response FROM state_idempotency WHERE principal_id = %s AND key = %s",
        (keyed.principal_id, keyed.key),
    )
    row = await cursor.fetchone()
    if row is None or row["request_digest"] != keyed.digest:
        raise IdempotencyKeyReusedError("This Idempotency-Key was used for another request")
    return str(row["response"])


async def purge_expired(connection: Connection) -> None:
    """A few at a time, on the way: no timer, and the table does not grow for ever."""
    await connection.execute(
        """
        DELETE FROM state_idempotency WHERE (principal_id, key) IN (
          SELECT principal_id, key FROM state_idempotency
           WHERE expires_at <= now() ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (PURGED_AT_ONCE,),
    )
