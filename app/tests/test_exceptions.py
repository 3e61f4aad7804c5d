"""A refusal is a line without a stack; a failure is one ERROR with a stack and the request's id."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fastapi import HTTPException
from starlette.testclient import TestClient

from seawall_service.errors import ConflictError, NotFoundError, ServiceUnavailableError, UnauthorizedError
from seawall_service.logging import configure_logging
from seawall_service.main import create_app
from seawall_service.startup_gate import load_settings
from tests.conftest import client_of

RAISED: dict[str, tuple[Exception, int]] = {
    "unauthorized": (UnauthorizedError("m"), 401),
    "not-found": (NotFoundError(), 404),
    "conflict": (ConflictError("m"), 409),
    "unique": (psycopg.errors.UniqueViolation(), 409),
    "bad-request": (HTTPException(400), 400),
    "teapot": (HTTPException(418), 418),
    "unforeseen": (RuntimeError("unforeseen"), 500),
    "http-500": (HTTPException(500), 500),
    "unavailable": (ServiceUnavailableError("m"), 503),
    "database": (psycopg.OperationalError("m"), 503),
}


@pytest.fixture(scope="module")
def failing() -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUEST_TIMEOUT_SECONDS", "2")
        app = create_app(load_settings("api"))

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise RAISED[name][0]

    @app.get("/hang")
    async def hang() -> None:
        await asyncio.sleep(30)

    with client_of(app) as client:
        yield client


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if line.get("request_id") == "the-one"]


@pytest.mark.requirement("ERR-10")
@pytest.mark.parametrize(
    ("path", "status"), [*((f"/raise/{name}", status) for name, (_, status) in RAISED.items()), ("/hang", 504), ("/nowhere", 404)]
)
def test_levels_and_stacks(failing: TestClient, capsys: pytest.CaptureFixture[str], path: str, status: int) -> None:
    configure_logging()
    assert failing.get(path, headers={"X-Request-ID": "the-one"}).status_code == status
    lines = lines_of(capsys)
    errors = [line for line in lines if line["level"] == "error"]
    stacks = [line for line in lines if "exception" in line]
    if status < 500:
        assert (errors, stacks) == ([], [])
        assert [line["event"] for line in lines] == ["request.denied", "request"]
    else:
        assert errors == stacks
        assert len(errors) == 1
        assert "Traceback" in errors[0]["exception"] or "Error" in errors[0]["exception"]
        assert [line["event"] for line in lines][-1] == "request"


@pytest.mark.requirement("ERR-10")
def test_an_invalid_body_is_a_refusal(failing: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    answer = failing.post("/api/v1/documents", json={"title": 7}, headers={"X-Request-ID": "the-one"})
    assert answer.status_code == 422
    assert [(line["event"], line["level"], "exception" in line) for line in lines_of(capsys)] == [
        ("request.denied", "info", False),
        ("request", "info", False),
    ]
