"""The worker's connections, and the rule that none is handed out before the role was judged."""

import asyncio
import os
import select
import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
import structlog
from psycopg import AsyncConnection, AsyncCursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from seawall_service.db.roles import judge_role
from seawall_service.errors import ServiceUnavailableError
from seawall_service.settings import Settings

log = structlog.get_logger(__name__)

type Connection = AsyncConnection[DictRow]

CONNECT_TIMEOUT_SECONDS = 5
WAITING_PER_CONNECTION = 4
RETRY_SECONDS = 1.0
RECONNECT_TIMEOUT_SECONDS = 10.0
DRAIN_PAUSE_SECONDS = 1.0
# An answer so recent is a sign of life itself.
ALIVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. Together shorter than a request may take, so that a slow database is a 503 and not a 504."""

    wait: float  # for a free connection
    check: float  # for a sign of life from one that was idle
    lock: float
    statement: float
    hold: float  # for all that a request does with it


def deadlines_of(request_timeout: float) -> Deadlines:
    return Deadlines(
        wait=min(5, request_timeout / 4),
        check=min(2, request_timeout / 10),
        lock=min(5, request_timeout / 4),
        statement=min(15, request_timeout / 2),
        hold=min(20, request_timeout * 0.6),
    )


def hang_up(connection: Connection) -> None:
    """Makes whoever waits for the server see a lost connection; a cancelled wait would first ask that server to cancel."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)


def has_said_something(connection: Connection) -> bool:
    """Whether an idle connection holds what nobody has asked for, such as its end."""
    line = select.poll()
    line.register(connection.fileno(), select.POLLIN)
    return line.poll(0) != []


@contextmanager
def answering_within(seconds: float, connection: Connection) -> Generator[None]:
    timer = asyncio.get_running_loop().call_later(seconds, hang_up, connection)
    try:
        yield
    finally:
        timer.cancel()


def connection_arguments(settings: Settings) -> dict[str, Any]:
    secret = settings.database_password
    deadlines = deadlines_of(settings.request_timeout)
    options = f"-c statement_timeout={deadlines.statement * 1000:.0f} -c lock_timeout={deadlines.lock * 1000:.0f}"
    # Those of the URL come last, and so win.
    given = conninfo_to_dict(settings.database_url).get("options") or ""
    return {
        "conninfo": settings.database_url,
        "password": secret.get_secret_value() if secret else None,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": f"seawall-{settings.colour or 'service'}",
        "options": f"{options} {given}".rstrip(),
        "autocommit": True,
    }


class Database:
    def __init__(self, settings: Settings, instrument: Callable[[Connection], None] | None = None) -> None:
        """`instrument` is done to each new connection, such as tracing what it executes."""
        arguments = connection_arguments(settings)
        self._settings = settings
        self._instrument = instrument
        self._deadlines = deadlines_of(settings.request_timeout)
        self._role_judged = asyncio.Event()
        self._drained_at = -DRAIN_PAUSE_SECONDS
        self._answered_at: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        size = settings.db_pool_size
        largest = size + settings.db_max_overflow
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo=arguments.pop("conninfo"),
            kwargs=arguments | {"row_factory": dict_row},
            min_size=size,
            max_size=largest,
            max_waiting=WAITING_PER_CONNECTION * largest,
            timeout=self._deadlines.wait,
            reconnect_timeout=RECONNECT_TIMEOUT_SECONDS,
            # So that a restarted database costs a wait and not a failed request.
            check=self._check,
            configure=self._configure if instrument else None,
            reconnect_failed=self._connect_again,
            open=False,
            name="app",
        )

    async def _configure(self, connection: Connection) -> None:
        if self._instrument is not None:
            self._instrument(connection)

    async def _connect_again(self, pool: AsyncConnectionPool[Connection]) -> None:
        """The pool gives up until somebody waits for a connection. But who has waited in vain counts as waiting still, and once
        those are as many as may wait, nobody else is let in to do so.
        """
        if pool.get_stats()["pool_size"] == 0:
            # There is nothing to check, so it only connects.
            await pool.check()

    async def _check(self, connection: Connection) -> None:
        """A round trip, but where the connection has just answered and the server has not hung up since."""
        silent_for = time.monotonic() - self._answered_at.get(connection, -ALIVE_SECONDS)
        try:
            if silent_for < ALIVE_SECONDS and not has_said_something(connection):
                return
            # As the pool's own check does it, but with a plain cursor: it is none of the request's statements.
            with answering_within(self._deadlines.check, connection):
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
    async def connection(self, wait_seconds: float | None = None) -> AsyncGenerator[Connection]:
        """A connection in autocommit mode: each statement is its own transaction.

        OperationalError when none is free in time, or when the server has not answered in time.
        """
        wait = self._deadlines.wait if wait_seconds is None else wait_seconds
        if not self._role_judged.is_set():
            try:
                async with asyncio.timeout(wait):
                    await self._role_judged.wait()
            except TimeoutError as error:
                raise ServiceUnavailableError("The database is not available") from error
        async with self._pool.connection(timeout=wait) as connection:
            with answering_within(self._deadlines.hold, connection):
                yield connection
            self._answered_at[connection] = time.monotonic()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        async with self.connection() as connection, connection.transaction():
            yield connection
