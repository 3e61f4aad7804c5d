"""The commit comes before the answer, and one transaction spans everything that a route does."""

import asyncio
import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from starlette.testclient import TestClient

from seawall_service.command_context import CommandContext
from seawall_service.db.pool import ALIVE_SECONDS, Connection
from seawall_service.deps import Context, CurrentUserId, DbSession
from seawall_service.documents import service
from seawall_service.documents.commands import CreateDocument
from seawall_service.errors import NotFoundError
from seawall_service.main import create_app
from seawall_service.startup_gate import load_settings
from tests.conftest import client_of, connect

told_after_commit: list[str] = []
told_in_order: list[str] = []


async def create(connection: Connection, principal_id: CurrentUserId) -> str:
    created = await service.create_document(connection, CreateDocument("doomed"), principal_id, CommandContext())
    return str(created.id)


@pytest.fixture(scope="module")
def doomed() -> Iterator[TestClient]:
    """The real application with routes whose transaction cannot end well."""
    app = create_app(load_settings("api"))

    @app.post("/commit-fails")
    async def commit_fails(connection: DbSession, principal_id: CurrentUserId, context: Context) -> dict[str, str]:
        context.after_commit.append(lambda: told_after_commit.append("too early"))
        document_id = await create(connection, principal_id)
        with connect("DATABASE_URL", "DATABASE_PASSWORD_FILE") as other:
            other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        return {"id": document_id}

    @app.post("/second-service-fails")
    async def second_fails(connection: DbSession, principal_id: CurrentUserId) -> dict[str, str]:
        await create(connection, principal_id)
        raise NotFoundError

    @app.post("/conflicts")
    async def conflicts(connection: DbSession, principal_id: CurrentUserId) -> None:
        await create(connection, principal_id)
        for _ in range(2):
            await connection.execute(
                "INSERT INTO proj_users (id, username, password_hash) VALUES (gen_random_uuid(), %s, '')", (str(principal_id),)
            )

    @app.post("/slow-query")
    async def slow_query(connection: DbSession, principal_id: CurrentUserId) -> None:
        await create(connection, principal_id)
        await connection.execute("SET LOCAL statement_timeout = '50ms'")
        await connection.execute("SELECT pg_sleep(5)")

    @app.post("/told")
    async def told(connection: DbSession, principal_id: CurrentUserId, context: Context) -> dict[str, str]:
        document_id = await create(connection, principal_id)

        async def committed() -> None:
            with connect("DATABASE_URL", "DATABASE_PASSWORD_FILE") as other:
                found = other.execute("SELECT count(*) FROM proj_documents WHERE id = %s", (document_id,)).fetchone()
            await asyncio.sleep(0.1)
            told_in_order.append(f"{found}")

        context.after_commit.append(committed)
        context.after_commit.append(lambda: told_in_order.append("and then"))
        return {"id": document_id}

    with client_of(app) as client:
        yield client


@pytest.mark.requirement("DB-02")
def test_what_follows_the_commit_is_done_in_its_order_and_before_the_answer(doomed: TestClient, headers: dict[str, str]) -> None:
    assert doomed.post("/told", headers=headers).status_code == 200
    assert told_in_order == ["(1,)", "and then"]


@pytest.mark.requirement("DB-02")
@pytest.mark.parametrize(
    ("path", "status"), [("/commit-fails", 503), ("/second-service-fails", 404), ("/conflicts", 409), ("/slow-query", 503)]
)
def test_nothing_is_written(doomed: TestClient, database: psycopg.Connection, path: str, status: int) -> None:
    user = str(uuid4())
    assert doomed.post(path, headers={"X-Principal-Id": user}).status_code == status
    assert told_after_commit == []
    written = {"events": "principal_id", "proj_documents": "owner_id", "proj_memberships": "user_id", "proj_users": "username"}
    for table, column in written.items():
        query = psycopg.sql.SQL("SELECT count(*) FROM {} WHERE {} = %s").format(
            psycopg.sql.Identifier(table), psycopg.sql.Identifier(column)
        )
        assert database.execute(query, (user,)).fetchone() == (0,)


@pytest.mark.requirement("HLT-02")
@pytest.mark.parametrize("idle_seconds", [0, ALIVE_SECONDS + 0.1], ids=["just used", "idle"])
def test_the_pool_recovers_from_lost_connections(doomed: TestClient, database: psycopg.Connection, idle_seconds: float) -> None:
    """Whether all have just answered, which the pool takes for a sign of life, or none has."""

    def statuses() -> list[int]:
        return [doomed.get("/api/v1/documents", headers={"X-Principal-Id": str(uuid4())}).status_code for _ in range(10)]

    # They take turns.
    assert statuses() == [200] * 10
    time.sleep(idle_seconds)
    # Each has ended when the next statement begins.
    database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
    )
    assert statuses() == [200] * 10
