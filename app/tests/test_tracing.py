"""Traces: ids that are always there, spans where an exporter is on, and nothing lost between the workers and the collector."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient, WebSocketDenialResponse

from seawall_service.correlation import current_correlation_id, new_trace_id, within_share
from seawall_service.deps import DbSession
from seawall_service.handlers import handling
from seawall_service.logging import configure_logging
from seawall_service.main import create_app
from seawall_service.otel.endpoints import build_otlp_logs_endpoint, build_otlp_metrics_endpoint, build_otlp_traces_endpoint
from seawall_service.startup_gate import StartupRefused, load_settings
from seawall_service.startup_report import report_configuration
from seawall_service.users.queries import GetMe
from tests.collector import Collector, values
from tests.conftest import EDGE, Boot, client_of
from tests.running_server import RunningServer

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
STRANGER = ("198.51.100.7", 40000)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def otlp(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> Collector:
    monkeypatch.setenv("OTEL_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    return collector


def application() -> FastAPI:
    return create_app(load_settings("api"))


def add_look(app: FastAPI) -> None:
    @app.get("/look")
    async def look() -> dict[str, str]:
        return {"correlation_id": str(current_correlation_id())}


def by_name(collector: Collector) -> dict[str, Span]:
    return {span.name: span for _, span in collector.spans}


@pytest.mark.requirement("OTEL-03")
@pytest.mark.parametrize(
    ("build", "signal"),
    [(build_otlp_traces_endpoint, "traces"), (build_otlp_logs_endpoint, "logs"), (build_otlp_metrics_endpoint, "metrics")],
)
def test_endpoints_end_with_the_signals_path_once(build: Callable[[str], str], signal: str) -> None:
    assert build("http://collector:4318") == f"http://collector:4318/v1/{signal}"
    assert build("http://collector:4318/") == f"http://collector:4318/v1/{signal}"
    assert build("http://collector/otlp") == f"http://collector/otlp/v1/{signal}"
    assert build(f"http://collector:4318/v1/{signal}") == f"http://collector:4318/v1/{signal}"
    assert build("") == ""


@pytest.mark.requirement("OTEL-03")
def test_a_whole_address_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://logs.example.org/in")
    settings = load_settings("api")
    assert settings.otlp_endpoint("logs") == "https://logs.example.org/in"
    assert settings.otlp_endpoint("traces") == "http://collector:4318/v1/traces"


@pytest.mark.requirement("OTEL-01", "LOG-02", "C6")
def test_without_exporter_each_request_has_ids_and_no_exporter_is_loaded(api: TestClient) -> None:
    script = "import sys, seawall_service.asgi; sys.exit(any('opentelemetry.exporter' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60).returncode == 0
    ids = {api.get("/healthz").headers["X-Request-ID"] for _ in range(3)}
    assert {UUID(given).version for given in ids} == {4}
    assert len(ids) == 3


@pytest.mark.requirement("OTEL-01")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER", "jaeger"),
        ("OTEL_SAMPLE_RATE", "2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://name:password@collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://collector"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://a b"),
    ],
)
def test_what_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartupRefused) as refused:
        load_settings("api")
    assert [refusal.variable for refusal in refused.value.refusals] == [variable]
    assert "password" not in str(refused.value)


SIGNALS = ("", "TRACES_", "LOGS_", "METRICS_")


@pytest.mark.requirement("OTEL-01")
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("value", ["grpc", "gRPC", "http/json", "http"])
def test_a_protocol_that_is_not_spoken_is_refused(monkeypatch: pytest.MonkeyPatch, signal: str, value: str) -> None:
    variable = f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL"
    monkeypatch.setenv(variable, value)
    load_settings("api")
    monkeypatch.setenv("OTEL_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_LOGS", "true")
    monkeypatch.setenv("OTEL_METRICS", "true")
    with pytest.raises(StartupRefused) as refused:
        load_settings("api")
    assert [refusal.variable for refusal in refused.value.refusals] == [variable]
    assert f"Set {variable}=http/protobuf" in str(refused.value)


@pytest.mark.requirement("OTEL-01")
def test_the_protocol_of_what_is_not_sent_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    load_settings("api")


@pytest.mark.requirement("OTEL-01")
@pytest.mark.parametrize("value", ["http/protobuf", "HTTP/Protobuf", ""])
def test_the_protocol_that_is_spoken_may_be_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER", "otlp")
    for signal in SIGNALS:
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL", value)
    load_settings("api")


@pytest.mark.requirement("LOG-02", "C6")
@pytest.mark.parametrize("exporter", ["none", "otlp"])
@pytest.mark.parametrize(("peer", "believed"), [(EDGE, True), (STRANGER, False)])
def test_a_trace_is_taken_from_trusted_peers_only(
    monkeypatch: pytest.MonkeyPatch, otlp: Collector, exporter: str, peer: tuple[str, int], *, believed: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER", exporter)
    app = application()
    add_look(app)
    with TestClient(app, client=peer) as client:
        answer = client.get("/look", headers={"traceparent": TRACEPARENT, "tracestate": "a=b", "baggage": "a=b"})
    correlation_id = UUID(answer.json()["correlation_id"])
    assert (correlation_id.hex == TRACE) is believed
    assert answer.headers["X-Request-ID"] == str(correlation_id)
    for _, span in otlp.spans:
        assert span.trace_id.hex() == correlation_id.hex
        assert bool(span.parent_span_id) is believed
    assert len(otlp.spans) == (exporter == "otlp")


@pytest.mark.requirement("LOG-02", "C6")
@pytest.mark.parametrize("exporter", ["none", "otlp"])
@pytest.mark.parametrize(("peer", "believed"), [(EDGE, True), (STRANGER, False)])
def test_so_is_that_of_a_socket(
    monkeypatch: pytest.MonkeyPatch, otlp: Collector, exporter: str, peer: tuple[str, int], *, believed: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER", exporter)
    path = f"/api/v1/documents/{uuid4()}/live"
    with TestClient(application(), client=peer) as client:
        sent = {"traceparent": TRACEPARENT}
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path, headers=sent):
            pass
    assert (UUID(denied.value.headers["X-Request-ID"]).hex == TRACE) is believed
    assert {span.trace_id.hex() == TRACE for _, span in otlp.spans} == ({believed} if exporter == "otlp" else set())


@pytest.mark.requirement("LOG-02", "SEC-10")
@pytest.mark.parametrize(("peer", "believed"), [(EDGE, True), (STRANGER, False)])
def test_what_strangers_say_beside_a_trace_goes_no_further(otlp: Collector, peer: tuple[str, int], *, believed: bool) -> None:
    said = {"traceparent": TRACEPARENT, "tracestate": "a=state", "baggage": "a=luggage"}
    app = application()

    @app.get("/out")
    async def out(request: Request) -> set[str]:
        async with httpx.AsyncClient() as client:
            await client.get(f"{otlp.endpoint}/elsewhere")
        return said.keys() & request.headers.keys()

    with TestClient(app, client=peer) as client:
        assert set(client.get("/out", headers=said).json()) == (set(said) if believed else set())
    outgoing = otlp.headers[0]
    assert "traceparent" in outgoing
    assert (outgoing.get("tracestate"), outgoing.get("baggage")) == (("a=state", "a=luggage") if believed else (None, None))


@pytest.mark.requirement("LOG-02")
@pytest.mark.parametrize("given", ["", "00-0-0-01", f"00-{'0' * 32}-b7ad6b7169203331-01", "x" * 5000])
def test_a_malformed_trace_is_no_trace(api: TestClient, given: str) -> None:
    answer = api.get("/healthz", headers={"traceparent": given})
    assert answer.status_code == 200
    assert UUID(answer.headers["X-Request-ID"]).version == 4


@pytest.mark.requirement("OTEL-02", "OTEL-05", "OTEL-06")
def test_one_request_is_one_trace_of_server_handler_database_and_outgoing_spans(
    otlp: Collector, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEAWALL_RELEASE", "seawall/service:7")
    app = application()

    @app.get("/everything")
    async def everything(connection: DbSession) -> None:
        await connection.execute("SELECT 41 + %s", (1,))
        async with httpx.AsyncClient() as client:
            await client.get(f"{otlp.endpoint}/elsewhere")

    with client_of(app) as client:
        assert client.get("/everything?token=kept-out", headers=headers).status_code == 200
        assert client.get("/healthz").status_code == 200
        created = client.post("/api/v1/documents", json={"title": "t"}, headers=headers).json()
        assert client.get(f"/api/v1/documents/{created['id']}", headers=headers).status_code == 200
    server = otlp.span("GET /everything")
    inside = {span.name: span for _, span in otlp.spans if span.trace_id == server.trace_id}
    assert set(inside) == {"GET /everything", "SELECT", "GET"}
    assert {span.parent_span_id for name, span in inside.items() if name != "GET /everything"} == {server.span_id}
    outgoing = [sent for sent in otlp.headers if server.trace_id.hex() in sent.get("traceparent", "")]
    assert len(outgoing) == 1
    assert values(list(inside["SELECT"].attributes))["db.statement"] == "SELECT 41 + %s"
    assert values(list(server.attributes))["url.query"] == "[redacted]"
    assert not any(b"kept-out" in body for body in otlp.bodies)

    handler, query = otlp.span("documents.command.create_document"), otlp.span("documents.query.get_document")
    assert handler.parent_span_id == otlp.span("POST /api/v1/documents").span_id
    assert query.parent_span_id == otlp.span("GET /api/v1/documents/{document_id}").span_id
    assert {span.name for _, span in otlp.spans if span.parent_span_id == handler.span_id} == {"INSERT"}
    # Probes and the statements of the start are no traces.
    roots = {span.name for _, span in otlp.spans if not span.parent_span_id}
    assert roots == {"GET /everything", "POST /api/v1/documents", "GET /api/v1/documents/{document_id}"}
    (resource,) = {json.dumps(resource, sort_keys=True): resource for resource, _ in otlp.spans}.values()
    assert resource["service.name"] == "seawall-api"
    assert resource["service.version"] == "seawall/service:7"
    assert resource["deployment.environment.name"] == "test"
    assert resource["service.instance.id"]
    assert otlp.unknown_paths == []


@pytest.mark.requirement("OTEL-02")
def test_refusals_are_outcomes_and_failures_are_errors(otlp: Collector, headers: dict[str, str]) -> None:
    with client_of(application()) as client:
        client.get(f"/api/v1/documents/{uuid4()}", headers=headers)
    span = otlp.span("documents.query.get_document")
    assert values(list(span.attributes)) == {"error.type": "NotFoundError", "seawall.code": "not_found"}
    assert span.status.code == span.status.STATUS_CODE_UNSET
    assert list(span.events) == []


@pytest.mark.requirement("OTEL-02")
def test_a_failure_is_an_error_of_the_handler_and_of_the_request(otlp: Collector) -> None:
    app = application()

    @app.get("/fails")
    async def fails() -> None:
        with handling(GetMe(), uuid4()):
            raise RuntimeError("the secret reason")

    with client_of(app) as client:
        assert client.get("/fails").status_code == 500
    handler, server = otlp.span("users.query.get_me"), otlp.span("GET /fails")
    assert [span.status.code for span in (handler, server)] == [Status.STATUS_CODE_ERROR] * 2
    assert values(list(handler.attributes)) == {"error.type": "RuntimeError", "seawall.code": "internal_error"}
    assert not any(b"the secret reason" in body for body in otlp.bodies)


@pytest.mark.requirement("OTEL-05")
def test_the_settings_name_the_service(monkeypatch: pytest.MonkeyPatch, otlp: Collector) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "another-name")
    with client_of(application()) as client:
        client.get("/openapi.json")
    assert {resource["service.name"] for resource, _ in otlp.spans} == {"another-name"}


@pytest.mark.requirement("OTEL-06", "SEC-10")
def test_no_attribute_is_longer_than_a_field_of_a_log_line(otlp: Collector) -> None:
    with client_of(application()) as client:
        client.get(f"/{'x' * 5000}")
    ((_, span),) = otlp.spans
    assert max(len(str(value)) for value in values(list(span.attributes)).values()) == 2000


@pytest.mark.requirement("OTEL-05")
@pytest.mark.usefixtures("otlp")
def test_providers_are_the_applications_own(headers: dict[str, str]) -> None:
    exporters = []
    for _ in range(2):
        app, exporter = application(), InMemorySpanExporter()
        app.state.exports.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
        exporters.append((app, exporter))
    with client_of(exporters[0][0]) as client:
        client.get("/api/v1/documents", headers=headers)
    assert [bool(exporter.get_finished_spans()) for _, exporter in exporters] == [True, False]
    spans = exporters[0][1].get_finished_spans()
    assert "documents.query.list_documents" in {span.name for span in spans}
    assert {span.resource.attributes["service.name"] for span in spans} == {"seawall-api"}


@pytest.mark.requirement("OTEL-01")
@pytest.mark.parametrize(("rate", "exported"), [("0", False), ("1", True)])
def test_only_a_share_is_exported_and_all_have_an_id(
    monkeypatch: pytest.MonkeyPatch, otlp: Collector, rate: str, *, exported: bool
) -> None:
    monkeypatch.setenv("OTEL_SAMPLE_RATE", rate)
    app = application()
    add_look(app)
    with client_of(app) as client:
        answer = client.get("/look")
    assert UUID(answer.json()["correlation_id"]).version == 4
    assert bool(otlp.spans) is exported


@pytest.mark.requirement("OTEL-01")
def test_of_half_of_the_traces_nothing_is_exported(monkeypatch: pytest.MonkeyPatch, otlp: Collector) -> None:
    monkeypatch.setenv("OTEL_SAMPLE_RATE", "0.5")
    with client_of(application()) as client:
        ids = {UUID(client.get("/nowhere").headers["X-Request-ID"]) for _ in range(40)}
    exported = {UUID(span.trace_id.hex()) for _, span in otlp.spans}
    assert exported == {given for given in ids if within_share(given.int, 0.5)}
    assert 0 < len(exported) < len(ids)


@pytest.mark.requirement("OTEL-01")
def test_a_share_of_uuids_is_that_share() -> None:
    """Of all bits of a UUID some are fixed, which a sampler must not look at."""
    ids = [new_trace_id() for _ in range(20_000)]
    for share in (0.1, 0.5, 0.9):
        kept = sum(within_share(trace_id, share) for trace_id in ids) / len(ids)
        assert abs(kept - share) < 0.03


@pytest.mark.requirement("OTEL-04")
@pytest.mark.parametrize("missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"])
def test_a_missing_package_warns_and_the_service_runs(monkeypatch: pytest.MonkeyPatch, otlp: Collector, missing: str) -> None:
    monkeypatch.delitem(sys.modules, "seawall_service.otel.traces", raising=False)
    monkeypatch.delitem(sys.modules, "seawall_service.otel.logs", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("OTEL_LOGS", "true")
    with structlog.testing.capture_logs() as lines, client_of(application()) as client:
        assert client.get("/healthz").status_code == 200
    missed = [line for line in lines if line["event"] == "startup.telemetry_package_missing"]
    assert [(line["signal"], line["log_level"]) for line in missed] == [("traces", "warning")]
    assert otlp.spans == []


@pytest.mark.requirement("OTEL-04")
def test_a_missing_package_of_the_logs_is_told_apart(monkeypatch: pytest.MonkeyPatch, otlp: Collector) -> None:
    monkeypatch.delitem(sys.modules, "seawall_service.otel.logs", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http._log_exporter", None)
    monkeypatch.setenv("OTEL_LOGS", "true")
    with structlog.testing.capture_logs() as lines, client_of(application()) as client:
        client.get("/openapi.json")
    missed = [line["signal"] for line in lines if line["event"] == "startup.telemetry_package_missing"]
    assert missed == ["logs"]
    assert [span.name for _, span in otlp.spans] == ["GET /openapi.json"]


@pytest.mark.requirement("OTEL-04")
def test_without_endpoint_nothing_is_set_up_and_the_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"OTEL_EXPORTER": "otlp", "OTEL_LOGS": "true", "OTEL_METRICS": "true"}.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings("api")
    assert create_app(settings).state.exports.tracer is None
    with structlog.testing.capture_logs() as lines:
        report_configuration(settings, "api")
    skipped = [line["signal"] for line in lines if line["event"] == "startup.telemetry_skipped"]
    assert skipped == ["traces", "logs", "metrics"]


@pytest.mark.requirement("OTEL-07")
def test_the_collector_gets_log_records_and_metrics(
    monkeypatch: pytest.MonkeyPatch, otlp: Collector, headers: dict[str, str]
) -> None:
    monkeypatch.setenv("OTEL_LOGS", "true")
    monkeypatch.setenv("OTEL_METRICS", "true")
    settings = load_settings("api")
    with client_of(create_app(settings)) as client:
        configure_logging()
        client.post("/api/v1/documents", json={"title": "t"}, headers=headers | {"X-Request-ID": "the-one"})
    from_logs = [(values(list(record.attributes)), record) for _, record in otlp.records]
    mine = [(fields, record) for fields, record in from_logs if fields.get("request_id") == "the-one"]
    assert [record.body.string_value for _, record in mine] == ["create_document.start", "create_document.success", "request"]
    server, handler = otlp.span("POST /api/v1/documents"), otlp.span("documents.command.create_document")
    assert {record.trace_id for _, record in mine} == {server.trace_id}
    assert [record.span_id for _, record in mine] == [handler.span_id, handler.span_id, server.span_id]
    assert mine[0][0]["command_name"] == "CreateDocument"
    assert {record.severity_text for _, record in mine} == {"INFO"}

    metrics = {metric.name: metric for _, metric in otlp.metrics}
    (point,) = metrics["http_requests"].sum.data_points
    assert (point.as_int, values(list(point.attributes))) == (
        1,
        {"method": "POST", "path": "/api/v1/documents", "status_code": "201"},
    )
    (measured,) = metrics["http_request_duration"].histogram.data_points
    assert (measured.count, metrics["http_request_duration"].unit) == (1, "s")
    assert {str(resource["service.name"]) for resource, _ in otlp.metrics + otlp.records} == {"seawall-api"}


def traced(boot: Boot, collector: Collector, application: str = "asgi", **environment: str) -> RunningServer:
    return boot(
        application,
        OTEL_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_LOGS="true",
        OTEL_METRICS="true",
        **environment,
    )


@pytest.mark.requirement("OTEL-01", "OTEL-05", "OTEL-07")
def test_spans_of_all_workers_arrive_and_are_flushed_at_sigterm(boot: Boot, collector: Collector) -> None:
    server = traced(boot, collector, OTEL_BSP_SCHEDULE_DELAY="600000", OTEL_BLRP_SCHEDULE_DELAY="600000")
    server.start().until_answering("/readyz").until_all_started()
    # Several at a time: one after the other may all meet the same worker.
    with ThreadPoolExecutor(8) as clients:
        sent = {answer.headers["X-Request-ID"] for answer in clients.map(server.get, ["/api/v1/documents"] * 40)}
    assert [span for _, span in collector.spans if span.name == "GET /api/v1/documents"] == []
    server.terminate()
    assert server.wait() == 0
    arrived = [(resource, span) for resource, span in collector.spans if span.name == "GET /api/v1/documents"]
    assert {str(UUID(span.trace_id.hex())) for _, span in arrived} == sent
    assert len(arrived) == 40
    instances = {resource["service.instance.id"] for resource, _ in arrived}
    assert len(instances) == 2
    logged = [values(list(record.attributes)).get("request_id") for _, record in collector.records]
    assert sent <= set(logged)
    counted = [
        point.as_int
        for _, metric in collector.metrics
        if metric.name == "http_requests"
        for point in metric.sum.data_points
        if values(list(point.attributes))["path"] == "/api/v1/documents"
    ]
    assert sum(counted) == 40
    # Every line is one on stdout as well, with the same ids.
    lines = {line["request_id"]: line for line in server.log_lines if line["event"] == "request"}
    assert {lines[given]["correlation_id"] for given in sent} == sent
    assert all(re.fullmatch("[0-9a-f]{16}", lines[given]["span_id"]) for given in sent)
    assert server.stderr == ""


@pytest.mark.requirement("OTEL-01")
def test_the_console_gets_one_span_a_line_and_stdout_stays_a_log(boot: Boot) -> None:
    server = boot(OTEL_EXPORTER="console").start().until_answering("/readyz")
    sent = server.get("/api/v1/documents").headers["X-Request-ID"]
    server.terminate()
    assert server.wait() == 0
    spans = [json.loads(line) for line in server.stderr.splitlines()]
    assert {UUID(span["context"]["trace_id"].removeprefix("0x")) for span in spans} == {UUID(sent)}
    assert {"GET /api/v1/documents", "documents.query.list_documents"} <= {span["name"] for span in spans}
    assert all("event" in line for line in server.log_lines)


@pytest.mark.requirement("OTEL-01")
def test_a_collector_that_is_away_costs_no_request_and_no_shutdown(boot: Boot) -> None:
    server = boot(
        OTEL_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_LOGS="true",
        OTEL_METRICS="true",
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    server.start().until_answering("/readyz")
    assert {server.get("/api/v1/documents").status for _ in range(5)} == {200}
    server.terminate()
    assert server.wait() == 0
    assert any("Application shutdown complete" in line["event"] for line in server.log_lines)


@pytest.mark.requirement("SEC-09")
def test_the_collector_gets_no_secret(boot: Boot, collector: Collector) -> None:
    password = "kept-out-of-every-span"
    server = traced(boot, collector, "auth_asgi", LOG_LEVEL="debug").start().until_answering("/readyz")
    server.post("/api/auth/login", {"username": "nobody", "password": password})
    server.get(f"/internal/verify?token={password}", {"Authorization": f"Bearer {password}", "Cookie": f"token={password}"})
    server.post("/api/auth/refresh", {"refresh_token": password})
    server.terminate()
    assert server.wait() == 0
    assert "auth.command.login" in by_name(collector)
    assert collector.records
    assert not any(password.encode() in body for body in collector.bodies)
