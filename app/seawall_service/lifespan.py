"""What a worker opens when it starts, after the fork, and closes when it ends."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypedDict

import structlog
from fastapi import FastAPI

from seawall_service.cache.client import RedisServer, build_redis
from seawall_service.cache.interface import Cache
from seawall_service.db.pool import Connection, Database
from seawall_service.extensions import Extensions
from seawall_service.rate_limit.interface import RateLimiter
from seawall_service.realtime.hub import Hub
from seawall_service.settings import Settings
from seawall_service.startup_gate import StartupRefused
from seawall_service.telemetry import Telemetry
from seawall_service.tracing import Exports

log = structlog.get_logger(__name__)

FIRST_JUDGEMENT_SECONDS = 2.0
WORKER_BOOT_ERROR = 3  # gunicorn's master stops the whole service when a worker ends with this


class State(TypedDict):
    database: Database
    redis: RedisServer | None
    cache: Cache
    rate_limiter: RateLimiter | None
    live: Hub


async def judge_or_exit(database: Database) -> None:
    """For a database that came late: too late for a clean refusal, never too late to stop."""
    try:
        await database.keep_judging_role()
    except StartupRefused as refused:
        log.critical("startup.refused", reasons=[str(refusal) for refusal in refused.refusals])
        os._exit(WORKER_BOOT_ERROR)


@asynccontextmanager
async def open_database(settings: Settings, instrument: Callable[[Connection], None] | None = None) -> AsyncGenerator[Database]:
    database = Database(settings, instrument)
    await database.open()
    judging: asyncio.Task[None] | None = None
    try:
        try:
            async with asyncio.timeout(FIRST_JUDGEMENT_SECONDS):
                await database.keep_judging_role()
        except TimeoutError:
            # Readiness says so; requests get 503 until the role has been judged.
            judging = asyncio.create_task(judge_or_exit(database))
        try:
            yield database
        finally:
            if judging is not None:
                judging.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await judging
    finally:
        await database.close()


def build_lifespan(
    settings: Settings, extensions: Extensions, exports: Exports, telemetry: Telemetry
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[State]:
        telemetry.open()
        async with exports.exporting(telemetry.close):
            redis = build_redis(settings)
            client = redis.client if redis else None
            rate_limiter = extensions.build_rate_limiter(
                settings, client, lambda degraded: telemetry.gauge("rate_limit_degraded", degraded, {})
            )
            cache = extensions.build_cache(settings, client)
            try:
                async with open_database(settings, exports.instrument_connection) as database:
                    live = Hub(settings, database)
                    try:
                        yield {"database": database, "redis": redis, "cache": cache, "rate_limiter": rate_limiter, "live": live}
                    finally:
                        await live.close()
            finally:
                if rate_limiter is not None:
                    await rate_limiter.close()
                if redis is not None:
                    await redis.close()

    return lifespan
