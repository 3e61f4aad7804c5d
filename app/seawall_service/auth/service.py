"""Refresh tokens: opaque, stored as digests, good for one use. Executes, never commits."""

import hashlib
import secrets
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import structlog

from seawall_service.db.pool import Connection
from seawall_service.db.purge import purge_expired

log = structlog.get_logger(__name__)

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    user_id: UUID
    refresh_token: str = field(repr=False)


def digest(token: str) -> bytes:
    """A fast hash is enough: the token is 256 random bits, not a password."""
    return hashlib.sha256(token.encode()).digest()


async def start_session(connection: Connection, user_id: UUID, ttl_seconds: int) -> Session:
    session = await issue(connection, user_id, uuid4(), ttl_seconds)
    await purge_expired(connection, "state_refresh_tokens")
    return session


async def issue(connection: Connection, user_id: UUID, family_id: UUID, ttl_seconds: int) -> Session:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    await connection.execute(
        """
        INSERT INTO state_refresh_tokens (token_digest, family_id, user_id, expires_at)
        VALUES (%s, %s, %s, now() + make_interval(secs => %s))
        """,
        (digest(token), family_id, user_id, ttl_seconds),
    )
    return Session(user_id, token)


async def rotate(connection: Connection, token: str, ttl_seconds: int) -> Session | None:
    """The next session of the family, or None for a token that is not good.

    None also when a used token came back: then its whole family is revoked, which the caller must commit.
    """
    # One use of a family at a time, or a revocation could miss the token that a parallel use is just issuing.
    await connection.execute(
        """
        SELECT pg_advisory_xact_lock(hashtextextended(family_id::text, 0))
          FROM state_refresh_tokens WHERE token_digest = %s
        """,
        (digest(token),),
    )
    cursor = await connection.execute(
        """
        UPDATE state_refresh_tokens t SET used_at = now()
          FROM proj_users u
         WHERE t.token_digest = %s AND t.used_at IS NULL AND t.revoked_at IS NULL AND t.expires_at > now()
           AND u.id = t.user_id AND u.disabled_at IS NULL
        RETURNING t.user_id, t.family_id
        """,
        (digest(token),),
    )
    row = await cursor.fetchone()
    if row is not None:
        return await issue(connection, row["user_id"], row["family_id"], ttl_seconds)
    await revoke_family_of_used(connection, token)
    return None


async def revoke_family_of_used(connection: Connection, token: str) -> None:
    cursor = await connection.execute(
        """
        UPDATE state_refresh_tokens SET revoked_at = now()
         WHERE revoked_at IS NULL
           AND family_id = (SELECT family_id FROM state_refresh_tokens WHERE token_digest = %s AND used_at IS NOT NULL)
        """,
        (digest(token),),
    )
    if cursor.rowcount:
        log.warning("refresh_token.reused", revoked=cursor.rowcount)
