"""What is missing is visible: production warns of each optional protection that is off, once, and never shows a secret."""

import os
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from seawall_service.startup_gate import Component, load_settings
from seawall_service.startup_report import FEATURES, report_configuration
from tests.conftest import Boot
from tests.test_startup_gate import PRODUCTION

ALL_ON = {
    "RATE_LIMIT_ENABLED": "true",
    "CACHE_ENABLED": "true",
    "METRICS_ENABLED": "true",
    "WEB_CONCURRENCY": "1",
    "OTEL_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
    "WS_LIMITS_ENABLED": "true",
    "WS_ALLOWED_ORIGINS": "https://example.org",
    "AUDIT_ENABLED": "true",
}


def reported(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], component: Component = "api") -> list[EventDict]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(component)
    with structlog.testing.capture_logs() as lines:
        report_configuration(settings, component)
    return lines


def disabled(lines: list[EventDict]) -> list[str]:
    assert {line["log_level"] for line in lines if line["event"] == "startup.feature_disabled"} <= {"warning"}
    return [line["feature"] for line in lines if line["event"] == "startup.feature_disabled"]


@pytest.mark.requirement("SEC-03")
def test_production_warns_of_each_feature_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = reported(monkeypatch, PRODUCTION)
    assert disabled(lines) == ["limiter", "cache", "metrics", "tracing", "ws_limits", "audit"] == list(FEATURES)
    assert [line["log_level"] for line in lines if line["event"] == "startup.config"] == ["info"]


@pytest.mark.requirement("SEC-03")
def test_what_is_on_is_listed_and_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = reported(monkeypatch, PRODUCTION | ALL_ON)
    assert disabled(lines) == []
    (config,) = [line for line in lines if line["event"] == "startup.config"]
    assert config["features"] == list(FEATURES)


@pytest.mark.requirement("SEC-03")
@pytest.mark.parametrize("feature", list(FEATURES))
def test_each_feature_warns_alone(monkeypatch: pytest.MonkeyPatch, feature: str) -> None:
    off = {
        "limiter": {"RATE_LIMIT_ENABLED": "false"},
        "cache": {"CACHE_ENABLED": "false"},
        "metrics": {"METRICS_ENABLED": "false"},
        "tracing": {"OTEL_EXPORTER": "none"},
        "ws_limits": {"WS_LIMITS_ENABLED": "false"},
        "audit": {"AUDIT_ENABLED": "false"},
    }[feature]
    assert disabled(reported(monkeypatch, PRODUCTION | ALL_ON | off)) == [feature]


@pytest.mark.requirement("SEC-03")
@pytest.mark.parametrize(("feature", "rate"), [("audit", "AUDIT_SAMPLE_RATE"), ("tracing", "OTEL_SAMPLE_RATE")])
def test_what_samples_nothing_is_off(monkeypatch: pytest.MonkeyPatch, feature: str, rate: str) -> None:
    assert disabled(reported(monkeypatch, PRODUCTION | ALL_ON | {rate: "0"})) == [feature]


@pytest.mark.requirement("C22")
@pytest.mark.parametrize(("url", "warned"), [("", True), ("redis://seawall@cache:6379/0", False)])
def test_limits_on_sockets_that_each_worker_counts_alone_warn(monkeypatch: pytest.MonkeyPatch, url: str, *, warned: bool) -> None:
    alone = {"WS_LIMITS_ENABLED": "true", "REDIS_URL": url}
    of_each: dict[Component, bool] = {"api": warned, "auth": False}
    for component, expected in of_each.items():
        lines = reported(monkeypatch, alone, component)
        found = [line["log_level"] for line in lines if line["event"] == "startup.ws_limits_divided"]
        assert found == ["warning"] * expected


@pytest.mark.requirement("SEC-03")
def test_the_gateway_warns_of_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert disabled(reported(monkeypatch, PRODUCTION, "auth")) == ["limiter", "metrics", "tracing"]


@pytest.mark.requirement("SEC-03")
def test_elsewhere_nothing_needs_to_be_on(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = reported(monkeypatch, {})
    assert [line["event"] for line in lines] == ["startup.drain_shorter_than_requests", "startup.config"]


@pytest.mark.requirement("SEC-03", "SEC-09")
def test_the_real_server_says_it_once_for_all_workers_and_shows_no_secret(boot: Boot) -> None:
    server = boot(**PRODUCTION, GUNICORN_LOG_LEVEL="debug", LOG_LEVEL="debug").start().until_answering("/readyz")
    server.terminate()
    assert server.wait() == 0
    lines = server.log_lines
    assert [line["feature"] for line in lines if line["event"] == "startup.feature_disabled"] == list(FEATURES)
    assert len([line for line in lines if line["event"] == "startup.config"]) == 1
    for variable in ("DATABASE_PASSWORD_FILE", "REDIS_PASSWORD_FILE"):
        assert Path(os.environ[variable]).read_text(encoding="utf-8").strip() not in server.stdout + server.stderr
