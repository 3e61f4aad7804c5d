"""Everything that the service writes is one JSON object a line, carries the request id, and holds no secret."""

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import structlog
from structlog.types import EventDict

from seawall_service.documents.commands import CreateDocument
from seawall_service.errors import NotFoundError
from seawall_service.handlers import handling
from seawall_service.logging import REDACTED, configure_logging, line_sinks, safe
from seawall_service.startup_gate import load_settings
from seawall_service.users.first_user import make_first_user
from tests.conftest import Boot

PASSWORD = "kept-out-of-every-log"


@pytest.mark.requirement("SEC-09")
def test_sign_in_leaves_no_secret_behind(boot: Boot, database: psycopg.Connection) -> None:
    name = f"ada-{uuid4().hex[:12]}"
    asyncio.run(make_first_user(load_settings("command"), name, PASSWORD))
    found = database.execute("SELECT id::text FROM proj_users WHERE username = %s", (name,)).fetchone()
    server = boot("auth_asgi", LOG_LEVEL="debug", GUNICORN_LOG_LEVEL="debug").start().until_answering("/readyz")
    tokens = server.post("/api/auth/login", {"username": name, "password": PASSWORD}).json()
    server.post("/api/auth/login", {"username": name, "password": f"{PASSWORD}-wrong"})
    server.post("/api/auth/login", {"username": PASSWORD, "password": [PASSWORD]})
    server.get("/internal/verify", {"Authorization": f"Bearer {tokens['access_token']}"})
    server.post("/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    server.post("/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    server.terminate()
    assert server.wait() == 0
    written = server.stdout + server.stderr
    secrets = [tokens["access_token"], tokens["refresh_token"], PASSWORD]
    secrets += [
        Path(server.environment[variable]).read_text(encoding="utf-8").strip()
        for variable in ("DATABASE_PASSWORD_FILE", "REDIS_PASSWORD_FILE", "JWT_SECRET_FILE")
    ]
    assert [secret for secret in secrets if secret in written] == []
    assert found
    told = {
        event: [line.get("user_id") for line in server.log_lines if line["event"] == event]
        for event in ("login.success", "login.denied", "refresh_token.reused")
    }
    # Of the failures one names nobody who is known.
    assert told == {"login.success": [found[0]], "login.denied": [found[0]], "refresh_token.reused": [found[0]]}
    assert UUID(next(line["session_id"] for line in server.log_lines if line["event"] == "refresh_token.reused"))


@pytest.mark.requirement("LOG-13")
def test_every_line_is_an_event(boot: Boot) -> None:
    server = boot(GUNICORN_LOG_LEVEL="debug").start().until_answering("/readyz")
    server.terminate()
    assert server.wait() == 0
    assert server.stderr == ""
    for line in server.log_lines:
        assert {"event", "level", "timestamp"} <= set(line)
    assert {"gunicorn.error", "uvicorn.error"} <= {line.get("logger") for line in server.log_lines}


@pytest.mark.requirement("LOG-01", "LOG-04", "LOG-06")
def test_one_access_line_and_the_handlers_events(boot: Boot) -> None:
    server = boot().start().until_answering("/readyz")
    user = str(uuid4())
    headers = {"X-Request-ID": "the-one", "X-Principal-Id": user, "X-Forwarded-For": "198.51.100.7"}
    document_id = server.post("/api/v1/documents", {"title": "t"}, headers).json()["id"]
    server.post(f"/api/v1/documents/{document_id}/entries", {"content": "c", "expected_version": 9}, headers)
    server.terminate()  # the access line is written after the answer
    assert server.wait() == 0
    lines = [line for line in server.log_lines if line.get("request_id") == "the-one"]
    assert [line["event"] for line in lines] == [
        "create_document.start",
        "create_document.success",
        "request",
        "append_entry.start",
        "append_entry.denied",
        "request.denied",
        "request",
    ]
    assert {line["principal_id"] for line in lines if "principal_id" in line} == {user}
    assert lines[0]["command_name"] == "CreateDocument"
    assert lines[0]["causation_id"] is None
    assert (lines[2]["status"], lines[2]["client_ip"], lines[2]["path"]) == (201, "198.51.100.7", "/api/v1/documents")
    assert lines[4]["document_id"] == document_id
    assert lines[6]["status"] == 409


@pytest.mark.requirement("LOG-04")
@pytest.mark.parametrize(
    ("error", "code"),
    [(NotFoundError(), "not_found"), (RuntimeError(), "internal_error"), (asyncio.CancelledError(), "internal_error")],
)
def test_every_handler_ends_with_one_event(error: BaseException, code: str) -> None:
    with structlog.testing.capture_logs() as lines, pytest.raises(type(error)), handling(CreateDocument("t"), uuid4()):
        raise error
    assert [(line["event"], line.get("code")) for line in lines] == [
        ("create_document.start", None),
        ("create_document.denied", code),
    ]


@pytest.mark.requirement("LOG-12", "LOG-13")
def test_foreign_loggers_carry_the_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    with structlog.contextvars.bound_contextvars(request_id="the-one"):
        logging.getLogger("somebody.else").warning("disk %s is full", "sda")
        structlog.get_logger().error("request.failed", ident=UUID(int=7), exc_info=RuntimeError("unforeseen"))
    foreign, own = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert foreign["event"] == "disk sda is full"
    assert (foreign["request_id"], foreign["logger"], foreign["level"]) == ("the-one", "somebody.else", "warning")
    assert own["ident"] == "00000000-0000-0000-0000-000000000007"
    assert "RuntimeError: unforeseen" in own["exception"]


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize("key", ["password", "refresh_token", "Authorization", "cookie", "api_key", "jwt_secret"])
def test_what_bears_a_secrets_name_is_redacted_at_any_depth(key: str) -> None:
    assert safe(key, "value") == REDACTED
    assert safe("request", {"headers": {key: "value"}}) == {"headers": {key: REDACTED}}
    assert safe("requests", [{"headers": [{key: "value"}]}]) == [{"headers": [{key: REDACTED}]}]


@pytest.mark.requirement("SEC-09")
def test_long_texts_are_cut() -> None:
    assert safe("content", "x" * 1000) == "x" * 64 + "… (1000 characters)"
    assert safe("body", "x" * 1000) == "x" * 64 + "… (1000 characters)"
    assert safe("path", "x" * 9000) == "x" * 2000 + "… (9000 characters)"
    assert safe("title", "x" * 1000) == "x" * 1000


@pytest.mark.requirement("SEC-09", "OTEL-07")
def test_what_is_passed_on_is_redacted_too() -> None:
    """As to a collector."""
    passed: list[dict[str, Any]] = []

    def take(event: EventDict) -> None:
        passed.append(dict(event))

    configure_logging()
    line_sinks.append(take)
    try:
        structlog.get_logger().info("hello", password="value", content="x" * 1000)
    finally:
        line_sinks.remove(take)
    assert [(line["password"], line["content"]) for line in passed] == [(REDACTED, "x" * 64 + "… (1000 characters)")]


def test_configuration_is_quiet_on_stdout_for_commands(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(stream=sys.stderr)
    structlog.get_logger().info("hello")
    logging.getLogger("somebody.else").info("hello")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2
