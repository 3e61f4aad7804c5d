"""The ways to log that callers choose from, and what a processor adds or takes away."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from seawall_service.correlation import add_trace_context, current_correlation_id
from seawall_service.logging import (
    build_processors,
    configure_logging,
    log_event,
    log_exception,
    log_external_api,
    log_timing,
    redact,
    select_renderer,
)

type Lines = Callable[[], list[dict[str, Any]]]

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.requirement("LOG-03", "LOG-02")
def test_ids_are_added_where_there_is_a_valid_span() -> None:
    span = NonRecordingSpan(SpanContext(TRACE_ID, 0xB7, is_remote=False, trace_flags=TraceFlags(0)))
    with use_span(span):
        assert current_correlation_id() == UUID(int=TRACE_ID)
        assert add_trace_context(None, "info", {"event": "a.b"}) == {
            "event": "a.b",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": "00000000000000b7",
            "correlation_id": "0af76519-16cd-43dd-8448-eb211c80319c",
        }


@pytest.mark.requirement("LOG-03")
def test_nothing_is_added_outside_of_a_span() -> None:
    assert add_trace_context(None, "info", {"event": "a.b"}) == {"event": "a.b"}
    assert current_correlation_id() is None


@pytest.mark.requirement("LOG-03")
def test_logging_works_without_opentelemetry() -> None:
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from seawall_service.logging import configure_logging, log_event\n"
        "configure_logging(); log_event('info', 'a.b', request_id='the-one')"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert run.stderr == ""
    assert json.loads(run.stdout)["request_id"] == "the-one"


@pytest.mark.requirement("LOG-07")
def test_log_event(lines: Lines) -> None:
    configure_logging("debug")
    user, document = uuid4(), uuid4()
    log_event("warning", "tail.closed", request_id="the-one", user_id=user, document_id=document, extra={"content": "x" * 99})
    log_event("info", "tail.opened", request_id="the-one", user_id=None, extra={"password": "p", "request_id": "another"})
    first, second = lines()
    assert (first["event"], first["level"], first["request_id"]) == ("tail.closed", "warning", "the-one")
    assert (first["user_id"], first["document_id"]) == (str(user), str(document))
    assert first["content"] == "x" * 64 + "… (99 characters)"
    assert (second["password"], second["request_id"]) == ("[redacted]", "the-one")
    assert "user_id" not in second


@pytest.mark.requirement("LOG-08")
def test_the_renderer_follows_debug(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(build_processors(), list)
    assert isinstance(select_renderer(debug=True), structlog.dev.ConsoleRenderer)
    assert isinstance(select_renderer(debug=False), structlog.processors.JSONRenderer)
    for debug in (True, False):
        configure_logging(debug=debug)
        structlog.get_logger().info("a.b", number=7)
    for_people, for_programs = capsys.readouterr().out.splitlines()
    assert "a.b" in for_people
    assert not for_people.startswith("{")
    assert json.loads(for_programs)["number"] == 7


@pytest.mark.requirement("LOG-09")
def test_log_timing(lines: Lines) -> None:
    configure_logging("debug")

    async def timed() -> None:
        async with log_timing("rebuild", level="debug", table="proj_documents") as found:
            found["rows"] = 7

    with log_timing("rebuild", table="proj_documents") as found:
        found["rows"] = 7
    asyncio.run(timed())
    with pytest.raises(KeyError), log_timing("rebuild"):
        raise KeyError
    first, second, failed = (line for line in lines() if line["event"] == "operation.timed")
    for line, level in ((first, "info"), (second, "debug")):
        assert (line["operation"], line["level"], line["rows"], line["table"]) == ("rebuild", level, 7, "proj_documents")
        assert line["duration_ms"] >= 0
    assert failed["error"] == "KeyError"
    assert "error" not in first


@pytest.mark.requirement("LOG-10", "SEC-09")
def test_log_external_api(lines: Lines) -> None:
    configure_logging("debug")

    @log_external_api("issuer", "get_keys", log_args=True)
    def plain(url: str, *, token: str) -> str:
        return url + token

    @log_external_api("issuer", "get_keys")
    async def waiting(url: str) -> str:
        if not url:
            raise ConnectionError("kept-out")
        return url

    assert plain("https://", token="kept-out") == "https://kept-out"
    assert asyncio.run(waiting("https://")) == "https://"
    with pytest.raises(ConnectionError):
        asyncio.run(waiting(""))
    assert plain.__name__ == "plain"
    written = [line for line in lines() if line["event"].startswith("external_api.")]
    assert [(line["event"], line["level"], line.get("args_count"), line.get("error")) for line in written] == [
        ("external_api.success", "info", 2, None),
        ("external_api.success", "info", None, None),
        ("external_api.failure", "warning", None, "ConnectionError"),
    ]
    assert {(line["api"], line["operation"]) for line in written} == {("issuer", "get_keys")}
    assert "kept-out" not in json.dumps(written)


@pytest.mark.requirement("LOG-11")
def test_log_exception(lines: Lines) -> None:
    configure_logging("debug")
    error = ValueError("unforeseen")
    log_exception(error, "import.failed", row=7)
    log_exception(error, "import.failed", level="warning", traceback=False)
    first, second = lines()
    assert (first["level"], first["error"], first["reason"], first["row"]) == ("error", "ValueError", "unforeseen", 7)
    assert "ValueError: unforeseen" in first["exception"]
    assert second["level"] == "warning"
    assert "exception" not in second


@pytest.mark.requirement("LOG-12")
def test_uuids_become_texts() -> None:
    ident = UUID(int=7)
    written = redact(None, "info", {"event": "a.b", "document_id": ident, "deep": {"ids": [ident]}})
    assert written == {"event": "a.b", "document_id": str(ident), "deep": {"ids": [str(ident)]}}
