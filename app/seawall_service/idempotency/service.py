"""A command with a key runs once; its result is stored in the transaction that stored its effect."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ValidationError

from seawall_service.db.pool import Connection
from seawall_service.db.transaction import purge_expired
from seawall_service.errors import ConflictError, IdempotencyKeyReusedError

log = structlog.get_logger(__name__)

KEPT_FOR = "24 hours"


@dataclass(frozen=True, slots=True)
class Keyed:
    """`request` says what is asked for; it outlasts a release, whose models may have more fields than those of the one before."""

    principal_id: UUID
    key: str | None
    command_name: str
    request: bytes

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.command_name.encode() + b"\0" + self.request).digest()


async def run_once[Result: BaseModel](
    connection: Connection, keyed: Keyed, model: type[Result], command: Callable[[], Awaitable[Result]]
) -> Result:
    """The command's result; the stored one when it has run before. Without a key it simply runs."""
    if keyed.key is None:
        return await command()
    stored = await reserve(connection, keyed)
    if stored is not None:
        log.info("idempotency.cache_hit", command_name=keyed.command_name)
        return replay(model, stored)
    result = await command()
    await connection.execute(
        "UPDATE state_idempotency SET response = %s WHERE principal_id = %s AND key = %s",
        (Jsonb(result.model_dump(mode="json")), keyed.principal_id, keyed.key),
    )
    await purge_expired(connection, "state_idempotency")
    return result


def replay[Result: BaseModel](model: type[Result], stored: str) -> Result:
    """Another release may have stored more, or less, than this one answers."""
    try:
        return model.model_validate_json(stored, extra="ignore")
    except ValidationError:
        raise ConflictError("This was done already, by a release whose answer cannot be repeated: read what it made") from None


async def reserve(connection: Connection, keyed: Keyed) -> str | None:
    """None when the command is ours to run, else the stored response.

    A second request with the same key waits here, on the unique index, until the first one has committed or failed.
    """
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
