"""Removes what has expired, a few rows at a time, on the way: no timer, and no table that grows for ever."""

from psycopg import sql

from seawall_service.db.pool import Connection

PURGED_AT_ONCE = 20

PURGE = sql.SQL("""
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM {table} WHERE expires_at <= now() ORDER BY expires_at LIMIT {limit} FOR UPDATE SKIP LOCKED))
""")


async def purge_expired(connection: Connection, table: str) -> None:
    """The last thing that a transaction does: until it ends, others wait for the rows that it has removed."""
    await connection.execute(PURGE.format(table=sql.Identifier(table), limit=sql.Literal(PURGED_AT_ONCE)))
