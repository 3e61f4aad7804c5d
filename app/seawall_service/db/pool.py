"""The worker's connections, and the rule that none is handed out before the role was judged."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from seawall_service.db.roles import judge_role
from seawall_service.errors import ServiceUnavailableError
from seawall_service.settings import Settings

log = structlog.get_logger(__name__)

type Connection = AsyncConnection[DictRow]

CONNECT_TIMEOUT_SECONDS = 5
POOL_TIMEOUT_SECONDS = 5
WAITING_PER_CONNECTION = 4
RETRY_SECONDS = 1.0
RECONNECT_TIMEOUT_SECONDS = 10.0
DRAIN_PAUSE_SECONDS = 1.0


def connection_arguments(settings: Settings) -> dict[str, Any]:
    secret = settings.database_password
    return {
        "conninfo": settings.database_url,
        "password": secret.get_secret_value() if secret else None,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": f"seawall-{settings.colour or 'service'}",
        "autocommit": True,
    }


class Database:
    def __init__(self, settings: Settings, instrument: Callable[[Connection], None] | None = None) -> None:
        """`instrument` is done to each new connection, such as tracing what it executes."""
        arguments = connection_arguments(settings)
        self._settings = settings
        self._instrument = instrument
        self._role_judged = asyncio.Event()
        self._drained_at = -DRAIN_PAUSE_SECONDS
        size = settings.db_pool_size
        largest = size + settings.db_max_overflow
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo=arguments.pop("conninfo"),
            kwargs=arguments | {"row_factory": dict_row},
            min_size=size,
            max_size=largest,
            max_waiting=WAITING_PER_CONNECTION * largest,
            timeout=POOL_TIMEOUT_SECONDS,
            reconnect_timeout=RECONNECT_TIMEOUT_SECONDS,
            # A round trip per request, so that a restarted database costs a wait and not a failed request.
            check=self._check,
            configure=self._configure if instrument else None,
            open=False,
            name="app",
        )

    async def _configure(self, connection: Connection) -> None:
        if self._instrument is not None:
            self._instrument(connection)

    async def _check(self, connection: Connection) -> None:
        try:
            # As the pool's own check does it, but with a plain cursor: it is none of the request's statements.
            async with AsyncCursor(connection) as cursor:
                await cursor.execute("")
        except psycopg.OperationalError:
            # Where one is dead, all are: the pool alone would find them one by one, waiting longer after each.
            if time.monotonic() - self._drained_at > DRAIN_PAUSE_SECONDS:
                self._drained_at = time.monotonic()
                await self._pool.drain()
            raise

    async def open(self) -> None:
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close()

    async def judge_role(self) -> None:
        """Raises StartupRefused for a role with too many rights; OperationalError while the database is away."""
        async with self._pool.connection() as connection:
            await judge_role(connection, self._settings)
        self._role_judged.set()

    async def keep_judging_role(self) -> None:
        while not self._role_judged.is_set():
            try:
                await self.judge_role()
            except psycopg.OperationalError as error:
                log.warning("startup.database_late", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    @asynccontextmanager
    async def connection(self, wait_seconds: float = POOL_TIMEOUT_SECONDS) -> AsyncGenerator[Connection]:
        """A connection in autocommit mode: each statement is its own transaction."""
        try:
            async with asyncio.timeout(wait_seconds):
                await self._role_judged.wait()
        except TimeoutError as error:
            raise ServiceUnavailableError("The database is not available") from error
        async with self._pool.connection(timeout=wait_seconds) as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        async with self.connection() as connection, connection.transaction():
            yield connection
