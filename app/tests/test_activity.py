"""A page can draw rates from what /api/v1/activity says, whichever worker it asks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry, Histogram
from starlette.testclient import TestClient

from seawall_service.activity.service import summarize
from seawall_service.main import create_app
from seawall_service.startup_gate import load_settings
from tests.conftest import Boot, client_of
from tests.running_server import RunningServer

PATH = "/api/v1/activity"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    environment = {"METRICS_ENABLED": "true", "WEB_CONCURRENCY": "1", "SEAWALL_RELEASE": "a/service:1", "SEAWALL_COLOUR": "blue"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with client_of(create_app(load_settings("api"))) as client:
        yield client


def counts(**classes: int) -> dict[str, int]:
    none = dict.fromkeys(("informational", "successful", "redirection", "client_error", "server_error"), 0)
    return none | classes | {"total": sum(classes.values())}


@pytest.mark.requirement("MET-04")
def test_answers_are_counted_by_class(measured: TestClient, headers: dict[str, str]) -> None:
    for _ in range(3):
        measured.get("/api/v1/documents", headers=headers)
    measured.get(f"/api/v1/documents/{uuid4()}", headers=headers)
    measured.get("/nowhere")
    answer = measured.get(PATH, headers=headers).json()
    assert answer["requests"] == counts(successful=3, client_error=2)
    assert answer["latency"]["buckets"][-1] == {"at_most_seconds": None, "count": 5}
    assert answer["latency"]["sum_seconds"] > 0
    assert (answer["release"], answer["colour"]) == ("a/service:1", "blue")
    assert datetime.fromisoformat(answer["since"]) < datetime.fromisoformat(answer["observed_at"]) <= datetime.now(UTC)


@pytest.mark.requirement("MET-04")
def test_looking_changes_nothing_that_is_seen(measured: TestClient, headers: dict[str, str]) -> None:
    for path in ("/healthz", "/readyz", "/health", "/api/v1/health/live", "/api/v1/health/ready", "/metrics", PATH):
        measured.get(path, headers=headers)
    assert measured.get(PATH, headers=headers).json()["requests"] == counts()


def test_without_metrics_it_is_not_there(api: TestClient, headers: dict[str, str]) -> None:
    answer = api.get(PATH, headers=headers)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert "METRICS_ENABLED" in answer.json()["error"]["message"]


@pytest.mark.requirement("SEC-05")
def test_strangers_are_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_AUTHENTICATED_PRINCIPAL", "true")
    assert client_of(create_app(load_settings("api"))).get(PATH).status_code == 401


def activity_of(server: RunningServer) -> dict[str, Any]:
    answer = server.get(PATH)
    assert answer.status == 200
    return answer.json()


@pytest.mark.requirement("MET-04")
def test_all_workers_tell_the_same(boot: Boot) -> None:
    """A connection each, so the answers come from different workers; a new start is another `since`."""
    server = boot(WEB_CONCURRENCY="3").start().until_answering("/readyz")
    for _ in range(30):
        assert server.get("/api/v1/documents").status == 200
    answers = [activity_of(server) for _ in range(20)]
    assert [answer["requests"] for answer in answers] == [counts(successful=30)] * 20
    assert len({answer["since"] for answer in answers}) == 1
    again = activity_of(boot(WEB_CONCURRENCY="3").start().until_answering("/readyz"))
    assert again["since"] > answers[0]["since"]
    assert again["requests"] == counts()


def test_buckets_of_all_routes_are_added() -> None:
    registry = CollectorRegistry()
    labels = ["method", "path", "status_code"]
    durations = Histogram("http_request_duration_seconds", "seconds", labels, registry=registry, buckets=(0.1, 1))
    for path, status, seconds in (("/a", "200", 0.05), ("/a", "204", 0.5), ("/b", "503", 4), ("/hidden", "200", 0.05)):
        durations.labels("GET", path, status).observe(seconds)
    requests, latency = summarize(registry.collect(), {"/hidden"})
    assert requests.model_dump() == counts(successful=2, server_error=1)
    assert [(bucket.at_most_seconds, bucket.count) for bucket in latency.buckets] == [(0.1, 1), (1.0, 2), (None, 3)]
    assert latency.sum_seconds == pytest.approx(4.55)
