"""The same handlers and the same logging of theirs, on FastAPI as it comes: what the hardened service is measured against."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Header
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from seawall_service import health
from seawall_service.command_context import CommandContext, command_context
from seawall_service.db.pool import Connection, connection_arguments
from seawall_service.documents.router import router
from seawall_service.logging import configure_logging
from seawall_service.security.principal import get_principal_id
from seawall_service.startup_gate import load_settings

settings = load_settings("api")
configure_logging(settings.log_level, debug=False)


class PlainDatabase:
    """A pool of the same size, and nothing else."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self.pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        async with self.pool.connection() as connection, connection.transaction():
            yield connection


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, Any]]:
    arguments = connection_arguments(settings) | {"row_factory": dict_row}
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        arguments.pop("conninfo"),
        kwargs=arguments,
        min_size=settings.db_pool_size,
        max_size=settings.db_pool_size + settings.db_max_overflow,
        open=False,
    )
    async with pool:
        yield {"database": PlainDatabase(pool), "cache": None}


async def believe(x_principal_id: Annotated[UUID, Header()]) -> UUID:
    return x_principal_id


async def no_context() -> CommandContext:
    return CommandContext()


app = FastAPI(lifespan=lifespan)
app.include_router(health.router)
app.include_router(router)
app.dependency_overrides |= {get_principal_id: believe, command_context: no_context}
