"""The pool behind a line that fails for longer than it goes on connecting."""

import asyncio
import os
import time
from contextlib import AsyncExitStack

import psycopg
import pytest
from psycopg_pool import PoolTimeout, TooManyRequests

from seawall_service.db import pool
from seawall_service.db.pool import WAITING_PER_CONNECTION, Database, connection_arguments
from seawall_service.settings import Settings
from seawall_service.startup_gate import load_settings
from tests.tcp_proxy import Proxy

LARGEST = 2
GIVES_UP_AFTER_SECONDS = 0.5
RECOVERY_SECONDS = 30.0


async def failure(database: Database, wait_seconds: float) -> type[Exception] | None:
    """How a question to the database fails, if it does."""
    try:
        async with database.connection(wait_seconds) as connection:
            await connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return type(error)
    return None


async def outlive_an_outage(database: Database, line: Proxy) -> None:
    await database.open()
    await database.judge_role()
    try:
        line.refuse()
        in_vain = [await failure(database, 0.05) for _ in range(WAITING_PER_CONNECTION * LARGEST + 4)]
        assert in_vain[-1] is TooManyRequests
        # Whoever tries to connect has given up by then, and who might make it try again is turned away.
        await asyncio.sleep(6 * GIVES_UP_AFTER_SECONDS)
        assert await failure(database, 0.05) is TooManyRequests
        line.heal()
        deadline = time.monotonic() + RECOVERY_SECONDS
        while await failure(database, 1.0) is not None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    finally:
        await database.close()


@pytest.mark.requirement("DB-05")
def test_it_connects_again_however_many_have_waited_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RECONNECT_TIMEOUT_SECONDS", GIVES_UP_AFTER_SECONDS)
    monkeypatch.setenv("DB_POOL_SIZE", "1")
    monkeypatch.setenv("DB_MAX_OVERFLOW", "1")
    with Proxy("db", 5432) as line:
        monkeypatch.setenv("DATABASE_URL", f"postgresql://seawall_app@127.0.0.1:{line.port}/app")
        asyncio.run(outlive_an_outage(Database(load_settings("api")), line))


async def lend_all(settings: Settings) -> tuple[list[int], type[Exception] | None]:
    """How many connections there are while nobody wants one, and while all are lent; and what one who then wants one gets."""
    database = Database(settings)
    arguments = connection_arguments(settings)
    of_another = arguments | {"application_name": "counts"}
    count = b"SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    async with (
        await psycopg.AsyncConnection.connect(**of_another) as other,
        AsyncExitStack() as lent,
    ):

        async def counted() -> int:
            row = await (await other.execute(count, (arguments["application_name"],))).fetchone()
            assert row is not None
            return int(row[0])

        await database.open()
        lent.push_async_callback(database.close)
        deadline = time.monotonic() + 10
        while await counted() < settings.db_pool_size:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await database.judge_role()
        at_rest = await counted()
        for _ in range(settings.db_pool_size + settings.db_max_overflow):
            await lent.enter_async_context(database.connection(5.0))
        return [at_rest, await counted()], await failure(database, 0.2)


@pytest.mark.requirement("DB-01")
def test_it_keeps_so_many_connections_and_opens_so_many_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_POOL_SIZE", "2")
    monkeypatch.setenv("DB_MAX_OVERFLOW", "1")
    monkeypatch.setenv("SEAWALL_COLOUR", "counted")
    assert asyncio.run(lend_all(load_settings("api"))) == ([2, 3], PoolTimeout)


@pytest.mark.requirement("DB-03")
def test_a_statement_has_a_part_of_a_requests_time_and_what_the_url_says_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUEST_TIMEOUT_SECONDS", "8")
    monkeypatch.setenv("DATABASE_URL", f"{os.environ['DATABASE_URL']}?options=-c%20lock_timeout%3D1234")
    with psycopg.connect(**connection_arguments(load_settings("api"))) as connection:
        shown = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in ("statement_timeout", "lock_timeout")]
    assert shown == [("4s",), ("1234ms",)]
