"""One transaction a request, committed before the answer begins."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, cast

from fastapi import Depends, Request
from psycopg import sql

from seawall_service.db.pool import Connection, Database

PURGED_AT_ONCE = 20
PURGE = sql.SQL("""
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM {table} WHERE expires_at <= now() ORDER BY expires_at LIMIT {limit} FOR UPDATE SKIP LOCKED))
""")

# What does not wait is a plain function; the answer waits for the others.
type AfterCommit = Callable[[], Awaitable[None] | None]


def database_of(request: Request) -> Database:
    return cast("Database", request.state.database)


def after_commit_of(request: Request) -> list[AfterCommit]:
    """What this request has to be done once its transaction is committed, in its order; never when it is not."""
    calls: list[AfterCommit] = request.scope["state"].setdefault("after_commit", [])
    return calls


async def transaction(request: Request) -> AsyncGenerator[Connection]:
    async with database_of(request).transaction() as connection:
        yield connection
    for call in after_commit_of(request):
        waiting = call()
        if waiting is not None:
            await waiting


# scope="function": by default FastAPI commits after the response, and a failing COMMIT would still be a 200.
DbSession = Annotated[Connection, Depends(transaction, scope="function")]


async def purge_expired(connection: Connection, table: str) -> None:
    """Removes what has expired, a few rows at a time, on the way: no timer, and no table that grows for ever.

    The last thing that a transaction does: until it ends, others wait for the rows that it has removed.
    """
    await connection.execute(PURGE.format(table=sql.Identifier(table), limit=sql.Literal(PURGED_AT_ONCE)))
