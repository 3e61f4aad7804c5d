"""The pool behind a line that fails for longer than it goes on connecting."""

import asyncio
import time

import psycopg
import pytest
from psycopg_pool import TooManyRequests

from seawall_service.db import pool
from seawall_service.db.pool import WAITING_PER_CONNECTION, Database
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
