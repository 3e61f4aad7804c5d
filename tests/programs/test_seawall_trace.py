"""Following one request: which lines are its own, and what three trace stores answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from module_run import module_run
from seawall_trace import (
    Line,
    Span,
    jaeger_spans,
    line_text,
    lines_in,
    lines_of,
    signoz_spans,
    spellings,
    tempo_spans,
    trace_id_of,
    tree,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
CORRELATION = "0af76519-16cd-43dd-8448-eb211c80319c"
START = 1_700_000_000_000_000_000
EDGE = Line("edge", {"timestamp": "2026-11-25T10:00:01+00:00", "event": "edge.request", "level": "info", "request_id": "the-one"})
SERVICE = Line(
    "api-blue",
    {
        "timestamp": "2026-11-25T10:00:00.5Z",
        "event": "create_document.start",
        "level": "info",
        "request_id": "the-one",
        "trace_id": TRACE,
        "correlation_id": CORRELATION,
        "span_id": "b7ad6b7169203331",
        "command_name": "CreateDocument",
        "causation_id": None,
    },
)
OTHER = Line("api-blue", {"timestamp": "2026-11-25T10:00:00Z", "event": "request", "request_id": "another", "trace_id": "0" * 32})
SCREEN = ["POST /api/v1/documents (seawall-api, 12.0 ms)", "  documents.command.create_document (seawall-api, 8.0 ms)"]

RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "seawall-api"}}]}
OTLP_SPANS = [
    {
        "spanId": "b",
        "parentSpanId": "a",
        "name": "documents.command.create_document",
        "startTimeUnixNano": str(START + 1_000_000),
        "endTimeUnixNano": str(START + 9_000_000),
    },
    {
        "spanId": "a",
        "name": "POST /api/v1/documents",
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + 12_000_000),
    },
]
OTLP = [{"resource": RESOURCE, "scopeSpans": [{"spans": OTLP_SPANS}]}]
JAEGER: dict[str, Any] = {
    "data": [
        {
            "processes": {"p1": {"serviceName": "seawall-api"}},
            "spans": [
                {
                    "spanID": "b",
                    "operationName": "documents.command.create_document",
                    "references": [{"refType": "CHILD_OF", "spanID": "a"}],
                    "startTime": START // 1000 + 1000,
                    "duration": 8000,
                    "processID": "p1",
                },
                {
                    "spanID": "a",
                    "operationName": "POST /api/v1/documents",
                    "startTime": START // 1000,
                    "duration": 12000,
                    "processID": "p1",
                },
            ],
        }
    ]
}
MILLISECONDS = START // 1_000_000
SIGNOZ: list[dict[str, Any]] = [
    {
        "columns": ["__time", "SpanId", "ServiceName", "Name", "DurationNano", "References"],
        "events": [
            [
                MILLISECONDS + 1,
                "b",
                "seawall-api",
                "documents.command.create_document",
                "8000000",
                [f"{{TraceId={TRACE}, SpanId=a, RefType=CHILD_OF}}"],
            ],
            [
                MILLISECONDS,
                "a",
                "seawall-api",
                "POST /api/v1/documents",
                "12000000",
                [f"{{TraceId={TRACE}, SpanId=, RefType=CHILD_OF}}"],
            ],
        ],
    }
]


@pytest.mark.parametrize("given", [TRACE, TRACE.upper(), CORRELATION])
def test_a_trace_id_is_found_however_it_is_written(given: str) -> None:
    assert {TRACE, CORRELATION} <= spellings(given)
    assert lines_of(given, [EDGE, OTHER, SERVICE]) == [SERVICE, EDGE]


def test_a_request_id_finds_the_lines_of_edge_and_service_in_their_order() -> None:
    assert lines_of("the-one", [EDGE, OTHER, SERVICE]) == [SERVICE, EDGE]
    assert lines_of("nobody's", [EDGE, OTHER, SERVICE]) == []


def test_the_trace_to_ask_for() -> None:
    assert trace_id_of("the-one", [EDGE, SERVICE]) == TRACE
    assert trace_id_of("the-one", [EDGE]) == ""
    assert trace_id_of(CORRELATION, []) == TRACE


def test_what_is_no_json_object_belongs_to_no_request() -> None:
    assert lines_in("edge", 'starting\n[1]\n{"request_id": "the-one"}\n') == [Line("edge", {"request_id": "the-one"})]


def test_a_line_says_each_thing_once() -> None:
    assert line_text(SERVICE) == '2026-11-25T10:00:00.5Z api-blue info create_document.start command_name="CreateDocument"'


@pytest.mark.parametrize(
    ("read", "document"),
    [
        (tempo_spans, {"batches": OTLP}),
        (tempo_spans, {"trace": {"resourceSpans": OTLP}}),
        (jaeger_spans, JAEGER),
        (signoz_spans, SIGNOZ),
    ],
    ids=["tempo", "tempo 2.7", "jaeger", "signoz"],
)
def test_each_store_is_read_into_the_same_tree(read: Callable[..., list[Span]], document: object) -> None:
    assert tree(read(document)) == SCREEN


def test_a_span_whose_parent_is_missing_is_shown_and_a_circle_ends() -> None:
    (child,) = [span for span in jaeger_spans(JAEGER) if span.parent]
    assert tree([child]) == [SCREEN[1].strip()]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that knows two containers, whose logs are files."""
    (tmp_path / "logs-e1").write_text(json.dumps(EDGE.fields) + "\n", encoding="utf-8")
    (tmp_path / "logs-a1").write_text(f"{json.dumps(SERVICE.fields)}\n{json.dumps(OTHER.fields)}\n", encoding="utf-8")
    docker = tmp_path / "docker"
    docker.write_text(
        f'#!/bin/sh\nif [ "$1" = ps ]; then printf "e1 edge\\na1 api-blue\\np1 postgres\\n"; else cat {tmp_path}/logs-"$2"; fi\n',
        encoding="utf-8",
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


@pytest.fixture
def store() -> Iterator[str]:
    """Answers as Jaeger does, to whoever brings the key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == f"/api/traces/{TRACE}" and self.headers["X-Key"] == "kept-out"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(JAEGER).encode() if known else b"")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.requirement("OPS-02")
@pytest.mark.usefixtures("host")
def test_lines_and_trace_are_shown_and_the_key_is_not(store: str) -> None:
    backend = {"kind": "jaeger", "url": f"{store}/", "headers": {"X-Key": "kept-out"}}
    answer = module_run("seawall_trace", arguments={"project": "seawall", "id": "the-one", "backend": backend})
    assert answer["rc"] == 0, answer
    assert answer["changed"] is False
    assert answer["screen"] == [line_text(SERVICE), line_text(EDGE), f"Trace {TRACE}:", *SCREEN]
    assert "kept-out" not in json.dumps(answer)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("kind", ["tempo", "jaeger", "signoz"])
def test_a_store_that_does_not_know_it_is_told_and_the_lines_are_there(store: str, kind: str) -> None:
    backend = {"kind": kind, "url": store}
    answer = module_run("seawall_trace", arguments={"project": "seawall", "id": "the-one", "backend": backend})
    assert answer["rc"] == 0, answer
    assert answer["screen"][:2] == [line_text(SERVICE), line_text(EDGE)]
    assert "404" in answer["screen"][-1]


@pytest.mark.usefixtures("host")
def test_an_id_that_nobody_has_and_one_that_is_none() -> None:
    unknown = module_run("seawall_trace", arguments={"project": "seawall", "id": "nobodys"})
    assert (unknown["rc"], unknown["found"]) == (0, False)
    assert "nobodys" in unknown["screen"][0]
    refused = module_run("seawall_trace", arguments={"project": "seawall", "id": "a b"})
    assert refused["rc"] == 1
    assert "./seawall trace -e id=THE_ID" in refused["msg"]


def test_spans_that_belong_to_each_other_in_a_circle_end() -> None:
    spans = [Span("a", "", "s", "first", 1, 0), Span("b", "a", "s", "second", 2, 0), Span("a", "b", "s", "again", 3, 0)]
    assert [line.split()[0] for line in tree(spans)] == ["first", "second"]


def test_what_a_container_writes_to_its_stderr_is_part_of_its_log(host: Path) -> None:
    docker = host / "docker"
    docker.write_text(docker.read_text(encoding="utf-8").replace('logs-"$2"', 'logs-"$2" >&2'), encoding="utf-8")
    answer = module_run("seawall_trace", arguments={"project": "seawall", "id": "the-one"})
    assert answer["screen"] == [line_text(SERVICE), line_text(EDGE)]
