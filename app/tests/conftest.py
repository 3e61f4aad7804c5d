"""What the tests share: the real database and cache, applications on top of them, and a real gunicorn."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import hypothesis
import psycopg
import pytest
import structlog
from fastapi import FastAPI
from starlette.testclient import TestClient

from seawall_service.main import create_app, create_auth_app
from seawall_service.startup_gate import load_settings
from seawall_service.users.first_user import make_first_user
from tests.running_server import RunningServer

# The same examples every time, and no file to keep them in: the image is read-only.
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("repeatable")

EDGE = ("127.0.0.1", 40000)
PASSWORD = "correct horse battery staple"

# Everything that can be switched on, with limits that no test reaches.
ALL_FEATURES = {
    "RATE_LIMIT_ENABLED": "true",
    "RATE_LIMIT_REQUESTS": "1000000",
    "RATE_LIMIT_PER_MINUTE_DEFAULT": "1000000",
    "RATE_LIMIT_BURST_DEFAULT": "1000000",
    "CACHE_ENABLED": "true",
    "WS_LIMITS_ENABLED": "true",
    "AUDIT_ENABLED": "true",
    "TELEMETRY_MODE": "log",
}

type Boot = Callable[..., RunningServer]


def client_of(app: FastAPI) -> TestClient:
    return TestClient(app, client=EDGE)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A test that configures logging does so onto streams that end with it."""
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def api() -> Iterator[TestClient]:
    with client_of(create_app(load_settings("api"))) as client:
        yield client


@pytest.fixture(scope="session")
def auth() -> Iterator[TestClient]:
    with client_of(create_auth_app(load_settings("auth"))) as client:
        yield client


@pytest.fixture
def principal_id() -> UUID:
    return uuid4()


@pytest.fixture
def headers(principal_id: UUID) -> dict[str, str]:
    return {"X-Principal-Id": str(principal_id)}


@pytest.fixture
def username() -> str:
    name = f"ada-{uuid4().hex[:12]}"
    assert asyncio.run(make_first_user(load_settings("command"), name, PASSWORD))
    return name


@pytest.fixture
def user_id(username: str, database: psycopg.Connection) -> str:
    row = database.execute("SELECT id::text FROM proj_users WHERE username = %s", (username,)).fetchone()
    assert row is not None
    return str(row[0])


def connect(url_variable: str, password_variable: str) -> psycopg.Connection:
    return psycopg.connect(
        os.environ[url_variable],
        password=Path(os.environ[password_variable]).read_text(encoding="utf-8").strip(),
        autocommit=True,
    )


@pytest.fixture
def owner() -> Iterator[psycopg.Connection]:
    """The migrating role, which lands as the owner of the schema."""
    with connect("MIGRATION_DATABASE_URL", "MIGRATION_DATABASE_PASSWORD_FILE") as connection:
        yield connection


@pytest.fixture
def database() -> Iterator[psycopg.Connection]:
    """The application's own role."""
    with connect("DATABASE_URL", "DATABASE_PASSWORD_FILE") as connection:
        yield connection


def run_module(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    """Starts a real gunicorn on a unix socket; whatever is left running is ended after the test."""
    started: list[RunningServer] = []

    def start(application: str = "asgi", **environment: str) -> RunningServer:
        server = RunningServer(tmp_path / f"server-{len(started)}", application, environment)
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()
