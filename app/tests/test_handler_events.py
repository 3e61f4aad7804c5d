"""Every command and query, also those to come, says that it starts and then once how it ended, in lines of one shape."""

import ast
import importlib
import json
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jsonschema_rs
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

import seawall_service
from seawall_service.errors import NotFoundError
from seawall_service.handlers import event_name, handling
from seawall_service.logging import configure_logging
from seawall_service.tracing import current_tracer

PACKAGE = Path(seawall_service.__file__).parent
type Lines = Callable[[], list[dict[str, Any]]]

UUID_TEXT = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
# `request` is the access line; everything else is `<verb>.<event>` or `<concern>.<event>`.
EVENT = r"^(request|[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*)$"
ONE_KEY_EACH = ["user", "principal", "actor", "correlationId", "requestId", "req_id", "trace", "doc_id", "command", "query"]

LINE: dict[str, Any] = {
    "type": "object",
    "required": ["event", "level", "timestamp"],
    "properties": {
        "event": {"type": "string", "pattern": EVENT},
        "level": {"enum": ["debug", "info", "warning", "error", "critical"]},
        "timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"},
        "request_id": {"type": "string", "pattern": r"^[A-Za-z0-9._-]{1,128}$"},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "span_id": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        "correlation_id": {"type": "string", "pattern": UUID_TEXT},
        "causation_id": {"type": ["string", "null"], "pattern": UUID_TEXT},
        "principal_id": {"type": ["string", "null"], "pattern": UUID_TEXT},
        "command_name": {"type": "string", "pattern": "^([A-Z][a-z0-9]*)+$"},
        "query_name": {"type": "string", "pattern": "^([A-Z][a-z0-9]*)+$"},
    },
    "patternProperties": {"^(document|user|member)_id$": {"type": "string", "pattern": UUID_TEXT}},
    "propertyNames": {"not": {"enum": ONE_KEY_EACH}},
}
OF_A_REQUEST = LINE | {"required": [*LINE["required"], "request_id", "trace_id", "span_id", "correlation_id"]}
OF_A_HANDLER = LINE | {
    "required": [*LINE["required"], "principal_id"],
    "oneOf": [
        {"required": ["command_name", "causation_id"], "not": {"required": ["query_name"]}},
        {"required": ["query_name"], "not": {"anyOf": [{"required": ["command_name"]}, {"required": ["causation_id"]}]}},
    ],
}


def messages() -> list[type]:
    names = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "seawall_service.")]
    modules = [importlib.import_module(name) for name in names if name.endswith((".commands", ".queries"))]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if is_dataclass(value) and isinstance(value, type) and value.__module__ == module.__name__
    ]


def handled_in(function: ast.AST) -> Iterator[str]:
    """The classes of what a function handles: of its parameter, of a variable that it fills, or made in place."""
    known: dict[str, str] = {}
    for node in ast.walk(function):
        match node:
            case ast.arg(arg=name, annotation=ast.Name(id=kind)):
                known[name] = kind
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=kind))):
                known[name] = kind
    for node in ast.walk(function):
        match node:
            case ast.withitem(context_expr=ast.Call(func=ast.Name(id="handling"), args=[ast.Name(id=name), *_])):
                yield known[name]
            case ast.withitem(context_expr=ast.Call(func=ast.Name(id="handling"), args=[ast.Call(func=ast.Name(id=kind)), *_])):
                yield kind


def handlers() -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # The innermost function only: a closure's parameters are not those of the function around it.
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        inner = [child for node in functions for child in ast.walk(node) if child is not node and child in functions]
        for function in functions:
            if not any(child in inner for child in ast.walk(function) if child is not function):
                yield from handled_in(function)


@pytest.mark.requirement("LOG-04")
def test_every_command_and_query_has_exactly_one_handler() -> None:
    assert Counter(handlers()) == Counter(message.__name__ for message in messages())
    assert {"CreateDocument", "AppendEntry", "ListDocuments", "GetMe", "Login"} <= {message.__name__ for message in messages()}


@pytest.fixture
def lines_of(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def problems(schema: dict[str, Any], line: dict[str, Any]) -> list[str]:
    return [f"{error.message} in {line}" for error in jsonschema_rs.validator_for(schema).iter_errors(line)]


@pytest.mark.requirement("LOG-04", "LOG-06", "OTEL-02")
@pytest.mark.parametrize("message", messages(), ids=lambda message: message.__name__)
def test_each_starts_and_ends_once_in_lines_of_one_shape_and_a_span(message: type, lines_of: Lines) -> None:
    configure_logging()
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    principal_id, document_id = uuid4(), uuid4()
    instance: Hashable = object.__new__(message)
    token = current_tracer.set(provider.get_tracer("test"))
    try:
        with handling(instance, principal_id, document_id=document_id):
            pass
        with pytest.raises(NotFoundError), handling(instance, principal_id, document_id=document_id):
            raise NotFoundError
        with pytest.raises(RuntimeError), handling(instance, principal_id, document_id=document_id):
            raise RuntimeError
    finally:
        current_tracer.reset(token)
    lines, verb = lines_of(), event_name(message.__name__)
    assert [(line["event"], line.get("code")) for line in lines] == [
        (f"{verb}.start", None),
        (f"{verb}.success", None),
        (f"{verb}.start", None),
        (f"{verb}.denied", "not_found"),
        (f"{verb}.start", None),
        (f"{verb}.denied", "internal_error"),
    ]
    assert [problem for line in lines for problem in problems(OF_A_HANDLER, line)] == []
    assert {(line["principal_id"], line["document_id"]) for line in lines} == {(str(principal_id), str(document_id))}
    context, module = message.__module__.split(".")[-2:]
    kind = {"commands": "command", "queries": "query"}[module]
    assert {line[f"{kind}_name"] for line in lines} == {message.__name__}
    assert {span.name for span in exporter.get_finished_spans()} == {f"{context}.{kind}.{verb}"}
    assert len({line["span_id"] for line in lines}) == 3


@pytest.mark.requirement("LOG-01", "LOG-02", "LOG-06", "LOG-13")
def test_every_line_of_a_request_has_its_ids(api: TestClient, headers: dict[str, str], lines_of: Lines) -> None:
    configure_logging()
    created = api.post("/api/v1/documents", json={"title": "t"}, headers=headers).json()
    entries = f"/api/v1/documents/{created['id']}/entries"
    answers = [
        api.post(entries, json={"content": "c", "expected_version": 1}, headers=headers),
        api.post(entries, json={"content": "c", "expected_version": 1}, headers=headers | {"X-Request-ID": "the-one"}),
        api.post(entries, json={"content": 1}, headers=headers),
        api.get(f"/api/v1/documents/{created['id']}", headers=headers),
        api.get("/api/v1/documents", headers=headers),
        api.get("/api/v1/users/me", headers=headers),
        api.get("/nowhere"),
        api.post("/api/v1/documents", content=b"x" * 2_000_000, headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 422, 200, 200, 404, 404, 413]
    lines = [line for line in lines_of() if line.get("logger") is None]
    assert [problem for line in lines for problem in problems(OF_A_REQUEST, line)] == []
    assert {line["event"] for line in lines} >= {"append_entry.denied", "body_size_limit.rejected", "request.denied", "request"}
    ids: dict[str, set[str]] = {}
    for line in lines:
        assert UUID(line["correlation_id"]).hex == line["trace_id"]
        ids.setdefault(line["request_id"], set()).add(line["correlation_id"])
    # One trace for each request, and the request id is its id unless the client has chosen one.
    assert all(len(found) == 1 for found in ids.values())
    assert {given for given, found in ids.items() if found != {given}} == {"the-one"}
    assert {answer.headers["X-Request-ID"] for answer in answers} <= set(ids)


HANDLED = re.compile(r"(?!request)[a-z_]+\.(start|success|denied)")
HANDLERS_OF_A_DOCUMENT = ("create_document", "get_document", "append_entry", "add_member", "transfer_document")


@pytest.mark.requirement("LOG-06")
def test_lines_of_handlers_name_what_they_are_about(api: TestClient, headers: dict[str, str], lines_of: Lines) -> None:
    configure_logging()
    document = api.post("/api/v1/documents", json={"title": "t"}, headers=headers).json()["id"]
    path, somebody = f"/api/v1/documents/{document}", str(uuid4())
    api.get(path, headers=headers)
    api.post(f"{path}/entries", json={"content": "c"}, headers=headers)
    api.post(f"{path}/members", json={"user_id": somebody, "role": "viewer"}, headers=headers)
    api.post(f"{path}/transfer", json={"to_user_id": somebody}, headers=headers)
    api.get(f"/api/v1/users/{somebody}", headers=headers)
    api.patch(f"/api/v1/users/{somebody}", json={"display_name": "x"}, headers=headers)
    lines = [line for line in lines_of() if line.get("logger") is None and HANDLED.fullmatch(line["event"])]
    about = {(line["event"].partition(".")[0], line.get("document_id"), line.get("user_id")) for line in lines}
    assert about == {
        *((verb, document, None) for verb in HANDLERS_OF_A_DOCUMENT),
        *((verb, None, somebody) for verb in ("get_user", "update_user")),
    }


@pytest.mark.requirement("LOG-05")
def test_every_event_that_is_written_has_a_name_of_two_parts() -> None:
    names = []
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if "log = structlog.get_logger(" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="log"), attr="debug" | "info" | "warning" | "error" | "exception" | "critical"
                    ),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    names.append(name)
    assert {"idempotency.cache_hit", "body_size_limit.rejected"} <= set(names)
    assert [name for name in names if not re.fullmatch(EVENT, name)] == []
