"""One protocol for measurements, whatever is behind it."""

import asyncio
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import generate_latest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from seawall_service.extensions import Extensions
from seawall_service.main import create_app
from seawall_service.metrics import PrometheusTelemetry
from seawall_service.middleware.telemetry import TelemetryMiddleware
from seawall_service.startup_gate import load_settings
from seawall_service.telemetry import FanOut, LoggingTelemetry, NoopTelemetry, Tags, Telemetry, build_telemetry
from tests.conftest import client_of


class Remembered:
    """What somebody who swaps the sink writes."""

    def __init__(self) -> None:
        self.measured: list[tuple[str, Tags]] = []

    def count(self, name: str, tags: Tags) -> None:
        self.measured.append((name, tags))

    def duration(self, name: str, seconds: float, tags: Tags) -> None:
        assert seconds > 0
        self.measured.append((name, tags))

    def gauge(self, name: str, value: float, tags: Tags) -> None:
        self.measured.append((f"{name}={value}", tags))

    def open(self) -> None: ...
    def close(self) -> None: ...


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("TELEMETRY_MODE", "log")
    with client_of(create_app(load_settings("api"))) as client:
        yield client


@pytest.mark.requirement("MET-03", "C9")
def test_log_mode_writes_a_counter_and_a_histogram_of_each_request(logged: TestClient, headers: dict[str, str]) -> None:
    with structlog.testing.capture_logs() as lines:
        logged.get("/api/v1/documents", headers=headers)
        logged.get("/nowhere")
    measured = [line for line in lines if line["event"].startswith("telemetry.")]
    assert [(line["event"], line["metric"], line["path"], line["status_code"]) for line in measured] == [
        ("telemetry.counter", "http_requests_total", "/api/v1/documents", "200"),
        ("telemetry.histogram", "http_request_duration_ms", "/api/v1/documents", "200"),
        ("telemetry.counter", "http_requests_total", "unmatched", "404"),
        ("telemetry.histogram", "http_request_duration_ms", "unmatched", "404"),
    ]
    assert {line["method"] for line in measured} == {"GET"}
    assert all(line["value"] > 0 for line in measured)


@pytest.mark.requirement("MET-03")
@pytest.mark.parametrize(("rate", "expected"), [("0", {0}), ("1", {2}), ("0.5", {0, 2})])
def test_of_a_request_all_measurements_or_none_are_written(
    monkeypatch: pytest.MonkeyPatch, rate: str, expected: set[int]
) -> None:
    monkeypatch.setenv("TELEMETRY_MODE", "log")
    monkeypatch.setenv("TELEMETRY_SAMPLE_RATE", rate)
    counts = set()
    with client_of(create_app(load_settings("api"))) as client:
        for _ in range(40):
            with structlog.testing.capture_logs() as lines:
                client.get("/healthz")
            counts.add(len([line for line in lines if line["event"].startswith("telemetry.")]))
    assert counts == expected


@pytest.mark.requirement("MET-03", "C8")
@pytest.mark.parametrize(
    ("environment", "prometheus", "kind"),
    [
        ({}, False, NoopTelemetry),
        ({"TELEMETRY_MODE": "noop"}, False, NoopTelemetry),
        ({"TELEMETRY_MODE": "log"}, False, LoggingTelemetry),
        ({}, True, PrometheusTelemetry),
        ({"TELEMETRY_MODE": "log"}, True, FanOut),
        ({"OTEL_METRICS": "true"}, False, NoopTelemetry),
    ],
)
def test_the_settings_choose_the_sinks(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], kind: type[object], *, prometheus: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    built = build_telemetry(load_settings("api"), "seawall-api", PrometheusTelemetry() if prometheus else None)
    assert type(built) is kind


@pytest.mark.requirement("MET-03", "SEC-12")
def test_without_a_sink_nothing_stands_in_a_requests_way() -> None:
    stack: list[object] = [middleware.cls for middleware in create_app(load_settings("api")).user_middleware]
    assert TelemetryMiddleware not in stack


@pytest.mark.requirement("MET-04")
def test_whoever_has_all_of_an_answer_finds_it_counted_once() -> None:
    remembered = Remembered()
    seen: list[list[str]] = []

    async def in_two_pieces(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def arrived(_: Message) -> None:
        seen.append([name for name, _ in remembered.measured])

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    measuring = TelemetryMiddleware(in_two_pieces, remembered, lambda _: "unmatched")
    asyncio.run(measuring({"type": "http", "method": "GET", "path": "/"}, nothing, arrived))
    both = ["http_requests", "http_request_duration"]
    assert seen == [[], [], both]
    assert [name for name, _ in remembered.measured] == both


@pytest.mark.requirement("CODE-02")
def test_another_sink_is_a_class_with_these_methods() -> None:
    remembered = Remembered()
    sink: Telemetry = remembered
    with client_of(
        create_app(load_settings("api"), Extensions(build_telemetry=lambda *_: FanOut([sink, NoopTelemetry()])))
    ) as client:
        client.request("BREW", "/nowhere")
    tags = {"method": "OTHER", "path": "unmatched", "status_code": "404"}
    assert remembered.measured[-2:] == [("http_requests", tags), ("http_request_duration", tags)]


@pytest.mark.requirement("MET-04", "C9")
def test_prometheus_gets_base_units_and_gauges() -> None:
    prometheus = PrometheusTelemetry()
    prometheus.duration("http_request_duration", 0.25, {"path": "/"})
    prometheus.count("http_requests", {})
    for value in (2, 1):
        prometheus.gauge("open_sockets", value, {})
    written = generate_latest(prometheus.registry).decode()
    assert 'http_request_duration_seconds_sum{path="/"} 0.25' in written
    assert "http_requests_total 1.0" in written
    assert "open_sockets 1.0" in written
