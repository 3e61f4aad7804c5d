"""A refusal is a line without a stack; a failure is one ERROR with a stack and the request's id."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fastapi import HTTPException, WebSocket
from starlette.testclient import TestClient
from starlette.types import Message

from seawall_service.errors import ConflictError, NotFoundError, ServiceUnavailableError, UnauthorizedError
from seawall_service.logging import configure_logging
from seawall_service.main import create_app
from seawall_service.realtime import router as realtime
from seawall_service.startup_gate import load_settings
from tests.conftest import EDGE, client_of

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
    "left-idle": (psycopg.errors.IdleInTransactionSessionTimeout("m"), 503),
    "too-long": (psycopg.errors.TransactionTimeout("m"), 503),
    "a-standby": (psycopg.errors.ReadOnlySqlTransaction("m"), 503),
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

    @app.websocket("/socket/{state}")
    async def fail_socket(websocket: WebSocket, state: str) -> None:
        if state == "open":
            await websocket.accept()
        raise RuntimeError("unforeseen")

    with client_of(app) as client:
        yield client


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if line.get("request_id") == "the-one"]


def lines_until_closed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Of a socket until it is done with: who waited for a close that does not come would wait for ever."""
    found = lines_of(capsys)
    deadline = time.monotonic() + 20
    while "websocket.closed" not in [line["event"] for line in found]:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        found += lines_of(capsys)
    return found


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


@pytest.mark.requirement("ERR-02")
@pytest.mark.parametrize(
    ("name", "code"), [("teapot", "bad_request"), ("http-500", "internal_error"), ("a-standby", "service_unavailable")]
)
def test_a_status_without_a_code_of_its_own_has_that_of_its_kind(failing: TestClient, name: str, code: str) -> None:
    assert failing.get(f"/raise/{name}").json()["error"]["code"] == code


@pytest.mark.requirement("ERR-05", "ERR-10")
def test_a_failure_before_an_upgrade_is_answered(failing: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked without a client, which would wait for ever for an answer that does not come."""
    configure_logging()
    told: list[Message] = []
    scope = {"type": "websocket", "path": "/socket/waiting", "query_string": b"", "subprotocols": [], "client": EDGE, "state": {}}
    scope |= {"headers": [(b"x-request-id", b"the-one")], "extensions": {"websocket.http.response": {}}}

    async def connect() -> Message:
        return {"type": "websocket.connect"}

    async def tell(message: Message) -> None:
        told.append(message)

    async def ask() -> None:
        await failing.app(scope, connect, tell)

    asyncio.run(ask())
    start, body = told
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 500)
    assert json.loads(body["body"])["error"]["code"] == "internal_error"
    assert [(line["event"], "exception" in line) for line in lines_of(capsys)] == [
        ("websocket.failed", True),
        ("websocket.closed", False),
    ]


@pytest.mark.requirement("ERR-10")
def test_a_failure_on_an_open_socket_closes_it(failing: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    with failing.websocket_connect("/socket/open", headers={"X-Request-ID": "the-one"}):
        found = lines_until_closed(capsys)
    assert [line["event"] for line in found] == ["websocket.failed", "websocket.closed"]
    assert found[1]["close_code"] == 1011


@pytest.mark.requirement("ERR-10")
def test_a_failure_in_a_live_tail_is_told_and_closes_it(
    api: TestClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging()

    async def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(realtime, "judge", fail)
    document = api.post("/api/v1/documents", json={"title": "t"}, headers=headers).json()["id"]
    sent = headers | {"X-Request-ID": "the-one"}
    with api.websocket_connect(f"/api/v1/documents/{document}/live", headers=sent) as socket:
        assert socket.receive_json()["type"] == "ready"
        socket.send_text('{"type": "ping"}')
        lines = [line for line in lines_until_closed(capsys) if line["event"].startswith("websocket.")]
    assert [(line["event"], line["level"], line.get("close_code")) for line in lines] == [
        ("websocket.failed", "error", None),
        ("websocket.ended", "info", 1011),
        ("websocket.closed", "info", 1011),
    ]


@pytest.mark.requirement("ERR-10")
def test_an_invalid_body_is_a_refusal(failing: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    answer = failing.post("/api/v1/documents", json={"title": 7}, headers={"X-Request-ID": "the-one"})
    assert answer.status_code == 422
    assert [(line["event"], line["level"], "exception" in line) for line in lines_of(capsys)] == [
        ("request.denied", "info", False),
        ("request", "info", False),
    ]
