"""Liveness touches nothing; readiness asks the database and compares its schema with this image's."""

import asyncio
from typing import Any

import psycopg
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from seawall_service.cache.client import RedisServer
from seawall_service.db.pool import Database
from seawall_service.error_handlers import error_response
from seawall_service.errors import RETRY_SOON, ErrorId, JsonValue, ServiceUnavailableError

log = structlog.get_logger(__name__)
router = APIRouter(include_in_schema=False)

# Both together stay under the two seconds that a prober may wait.
CONNECTION_WAIT_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 1.5

# HEAD as well, which probers like to send; the server leaves the body out.
PROBED = ["GET", "HEAD"]

type Check = dict[str, JsonValue]

# The loop itself holds on to a task only weakly.
late: set[asyncio.Task[tuple[Check, Check]]] = set()


@router.api_route("/healthz", methods=PROBED)
@router.api_route("/health", methods=PROBED)
@router.api_route("/api/v1/health/live", methods=PROBED)
async def live() -> dict[str, str]:
    return {"status": "ok"}


async def check_database(database: Database, expected: str) -> tuple[Check, Check]:
    schema: Check = {"ok": False, "expected": expected, "actual": None}
    try:
        async with database.connection(wait_seconds=CONNECTION_WAIT_SECONDS) as connection:
            await connection.execute("SELECT 1")
            try:
                cursor = await connection.execute("SELECT version_num FROM alembic_version")
                actual = [row["version_num"] for row in await cursor.fetchall()]
            except psycopg.errors.UndefinedTable:
                actual = []
    except (psycopg.Error, ServiceUnavailableError) as error:
        return {"ok": False, "reason": type(error).__name__}, schema
    return {"ok": True}, schema | {"ok": actual == [expected], "actual": ",".join(actual) or None}


async def check_database_in_time(database: Database, expected: str) -> tuple[Check, Check]:
    # Not cancelled when it is late: that takes as long as a silent server likes, and the connection's own deadline ends it.
    check = asyncio.create_task(check_database(database, expected))
    finished, _ = await asyncio.wait({check}, timeout=CHECK_TIMEOUT_SECONDS)
    if finished:
        return check.result()
    late.add(check)
    check.add_done_callback(late.discard)
    return {"ok": False, "reason": "TimeoutError"}, {"ok": False, "expected": expected, "actual": None}


async def check_cache(redis: RedisServer | None) -> Check:
    if redis is None:
        return {"ok": True, "configured": False, "fatal": False}
    reason = await redis.ping()
    return {"ok": reason is None, "configured": True, "fatal": False, "reason": reason}


@router.api_route("/readyz", methods=PROBED)
@router.api_route("/api/v1/health/ready", methods=PROBED)
async def ready(request: Request) -> Response:
    services: Any = request.state
    (database, schema), cache = await asyncio.gather(
        check_database_in_time(services.database, request.app.state.expected_revision), check_cache(services.redis)
    )
    checks: JsonValue = {"database": database, "schema": schema, "cache": cache}
    if database["ok"] and schema["ok"]:
        return JSONResponse({"status": "ready", "checks": checks})
    log.warning("readiness.failed", checks=checks)
    return error_response(503, ErrorId.SERVICE_UNAVAILABLE, "Not ready", checks, RETRY_SOON)
