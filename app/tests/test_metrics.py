"""Counts are exact over all workers, and their labels are the routes of the API."""

import os
import signal
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from seawall_service.main import create_app, create_auth_app
from seawall_service.startup_gate import load_settings
from tests.conftest import Boot, client_of
from tests.running_server import RunningServer


def requests_by_label(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["method"], sample.labels["path"], sample.labels["status_code"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "http_requests_total"
    }


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("METRICS_ENABLED", "true")
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    with client_of(create_app(load_settings("api"))) as client:
        yield client


@pytest.mark.requirement("MET-01")
def test_two_applications_count_for_themselves(measured: TestClient) -> None:
    with client_of(create_app(load_settings("api"))) as other:
        for _ in range(3):
            measured.get("/healthz")
        other.get("/healthz")
        counts = [requests_by_label(client.get("/metrics").text) for client in (measured, other)]
    assert counts == [{("GET", "/healthz", "200"): 3.0}, {("GET", "/healthz", "200"): 1.0}]


@pytest.mark.requirement("MET-01")
def test_what_is_refused_on_its_way_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By every middleware that may refuse: the size of a body, the rate, and who may ask from another origin."""
    settings = {
        "METRICS_ENABLED": "true",
        "WEB_CONCURRENCY": "1",
        "MAX_REQUEST_BODY_SIZE_BYTES": "100",
        "RATE_LIMIT_ENABLED": "true",
        "RATE_LIMIT_REQUESTS": "1",
        "REDIS_URL": "",
        "CORS_ORIGINS": "https://a.example",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    headers = {"X-Principal-Id": str(uuid4())}
    with client_of(create_app(load_settings("api"))) as client:
        preflight = {"Origin": "https://b.example", "Access-Control-Request-Method": "GET"}
        seen = [
            client.post("/api/v1/documents", content=b" " * 101, headers=headers).status_code,
            client.get("/api/v1/documents", headers=headers).status_code,
            client.get("/api/v1/documents", headers=headers).status_code,
            client.options("/api/v1/documents", headers=headers | preflight).status_code,
        ]
        assert seen == [413, 200, 429, 400]
        counted = requests_by_label(client.get("/metrics").text)
    assert counted == {
        ("POST", "/api/v1/documents", "413"): 1,
        ("GET", "/api/v1/documents", "200"): 1,
        ("GET", "/api/v1/documents", "429"): 1,
        ("OPTIONS", "/api/v1/documents", "400"): 1,
    }


@pytest.mark.requirement("MET-01")
def test_off_by_default(api: TestClient) -> None:
    assert api.get("/metrics").status_code == 404


@pytest.mark.requirement("MET-04")
def test_labels_are_route_templates(measured: TestClient) -> None:
    headers = {"X-Principal-Id": str(uuid4())}
    paths = measured.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for method in operations:
            measured.request(method, path.replace("{document_id}", str(uuid4())), json={}, headers=headers)
    measured.get(f"/api/v1/{uuid4()}")
    measured.request("BREW", "/nowhere")
    assert "/metrics" not in paths
    counted = {(method, path) for method, path, _ in requests_by_label(measured.get("/metrics").text)}
    expected = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    assert counted == expected | {("GET", "unmatched"), ("OTHER", "unmatched")}


@pytest.mark.requirement("MET-04")
def test_labels_of_the_gateway_are_its_route_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_ENABLED", "true")
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    with client_of(create_auth_app(load_settings("auth"))) as gateway:
        described = {
            (method.upper(), path) for path, methods in gateway.get("/openapi.json").json()["paths"].items() for method in methods
        }
        # The edge's own question is in no document for clients.
        asked = described | {("GET", "/internal/verify")}
        for method, path in asked:
            assert gateway.request(method, path, json={}).status_code in {401, 422}
            gateway.request(method, f"{path}/{uuid4()}")
        counted = {(method, path) for method, path, _ in requests_by_label(gateway.get("/metrics").text)}
    assert len(described) > 2
    assert counted == asked | {("GET", "unmatched"), ("POST", "unmatched")}


def count_of_lists(server: RunningServer) -> float:
    return requests_by_label(server.get("/metrics").body.decode())[("GET", "/api/v1/documents", "200")]


@pytest.mark.requirement("MET-04")
def test_exact_over_workers_and_their_successors(boot: Boot) -> None:
    server = boot(WEB_CONCURRENCY="3").start().until_all_started()
    for _ in range(60):
        assert server.get("/api/v1/documents").status == 200
    assert count_of_lists(server) == 60
    before = set(server.worker_pids())
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while len(set(server.worker_pids()) - {victim}) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert set(server.worker_pids()) - before
    server.until_answering("/readyz")
    for _ in range(60):
        assert server.get("/api/v1/documents").status == 200
    assert count_of_lists(server) == 120
    slots = {file.name.rsplit("_", 1)[1] for file in server.metrics_directory.iterdir()}
    assert slots <= {"0.db", "1.db", "2.db"}


@pytest.mark.requirement("MET-04")
def test_a_new_start_counts_from_zero(boot: Boot) -> None:
    server = boot()
    (server.metrics_directory / "counter_9.db").write_bytes(b"left over")
    strange = server.metrics_directory / "strange" / "file"
    strange.parent.mkdir()
    strange.touch()
    server.start().until_answering("/readyz")
    assert server.get("/api/v1/documents").status == 200
    assert count_of_lists(server) == 1
    assert strange.exists()


def test_without_metrics_nothing_is_removed(boot: Boot) -> None:
    server = boot(METRICS_ENABLED="false")
    left = server.metrics_directory / "counter_9.db"
    left.touch()
    server.start().until_answering("/readyz")
    assert left.exists()
