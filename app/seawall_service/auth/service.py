"""Sessions: families of refresh tokens, which are opaque, stored as digests, good for one use. Executes, never commits."""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import structlog

from seawall_service.db.pool import Connection
from seawall_service.db.transaction import purge_expired
from seawall_service.users.service import Credentials

log = structlog.get_logger(__name__)

TOKEN_BYTES = 32
# Longer than any access token lives, whatever ACCESS_TOKEN_TTL_SECONDS was when it was issued.
REVOCATION_KEPT_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Session:
    id: UUID
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
    return Session(family_id, user_id, token)


def log_whose_sign_in(known: Credentials | None) -> None:
    """In the lines that follow: nobody is signed in yet, so their principal is the system."""
    if known is not None:
        structlog.contextvars.bind_contextvars(user_id=str(known.user_id))


async def lock_family(connection: Connection, token: str) -> None:
    """One use of a family at a time, or a revocation could miss the token that a parallel use is just issuing."""
    await connection.execute(
        """
        SELECT pg_advisory_xact_lock(hashtextextended(family_id::text, 0))
          FROM state_refresh_tokens WHERE token_digest = %s
        """,
        (digest(token),),
    )


async def rotate(connection: Connection, token: str, ttl_seconds: int) -> Session | None:
    """The next session of the family, or None for a token that is not good.

    None also when a used token came back: then its whole family is revoked, which the caller must commit.
    """
    await lock_family(connection, token)
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
        session = await issue(connection, row["user_id"], row["family_id"], ttl_seconds)
        await purge_expired(connection, "state_refresh_tokens")
        return session
    cursor = await connection.execute(
        "SELECT 1 AS used FROM state_refresh_tokens WHERE token_digest = %s AND used_at IS NOT NULL", (digest(token),)
    )
    if await cursor.fetchone() is not None:
        revoked = await revoke_family(connection, token)
        if revoked:
            family = revoked[0]
            log.warning(
                "refresh_token.reused", revoked=len(revoked), user_id=str(family["user_id"]), session_id=str(family["family_id"])
            )
    return None


async def end_session(connection: Connection, token: str) -> None:
    """Revokes the family of the token, and with it the access tokens that it led to. An unknown token ends nothing."""
    await lock_family(connection, token)
    await revoke_family(connection, token)
    await purge_expired(connection, "state_revoked_sessions")


async def revoke_family(connection: Connection, token: str) -> list[dict[str, Any]]:
    """User and family of each refresh token that was good until now."""
    await connection.execute(
        """
        INSERT INTO state_revoked_sessions (session_id, expires_at)
        SELECT family_id, now() + make_interval(secs => %s) FROM state_refresh_tokens WHERE token_digest = %s
        ON CONFLICT (session_id) DO NOTHING
        """,
        (REVOCATION_KEPT_SECONDS, digest(token)),
    )
    cursor = await connection.execute(
        """
        UPDATE state_refresh_tokens SET revoked_at = now()
         WHERE revoked_at IS NULL AND family_id = (SELECT family_id FROM state_refresh_tokens WHERE token_digest = %s)
        RETURNING user_id, family_id
        """,
        (digest(token),),
    )
    return await cursor.fetchall()


async def is_current(connection: Connection, user_id: UUID, session_id: UUID | None) -> bool:
    """Whether the user may still come in, and has not signed out: two look-ups by primary key, in one statement."""
    cursor = await connection.execute(
        """
        SELECT EXISTS (SELECT FROM proj_users WHERE id = %s AND disabled_at IS NULL)
               AND NOT EXISTS (SELECT FROM state_revoked_sessions WHERE session_id = %s) AS current
        """,
        (user_id, session_id),
    )
    row = await cursor.fetchone()
    return row is not None and row["current"]
