"""What is written down about the configuration is what the code does."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from seawall_service import worker_count
from seawall_service.env_example import SECTIONS, render
from seawall_service.startup_gate import StartupRefused, load_settings
from seawall_service.worker_count import quota_from_v1, quota_from_v2
from tests.conftest import Boot

ROOT = Path(__file__).parent.parent


@pytest.mark.requirement("CFG-01")
def test_env_example_is_current() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == render()


@pytest.mark.requirement("CFG-01", "CFG-04")
def test_env_example_can_be_used_as_it_is(boot: Boot) -> None:
    """Nothing in it is set to nothing, which gunicorn and prometheus_client would not take for unset."""
    lines = [line for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    given = dict(line.split("=", 1) for line in lines)
    assert all(given.values())
    server = boot()
    server.environment = {**os.environ, **given, "SEAWALL_BIND": server.environment["SEAWALL_BIND"]}
    server.start().until_answering("/readyz")


def test_every_setting_is_described() -> None:
    for _, model in SECTIONS:
        assert all(field.alias and field.description for field in model.model_fields.values())


@pytest.mark.requirement("CFG-01", "CFG-04", "RUN-01", "RUN-03", "DB-01", "SEC-07")
def test_defaults_of_the_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APP_ENV", "REDIS_URL"):
        monkeypatch.delenv(name)
    settings = load_settings("api")
    assert settings.environment == "dev"
    assert settings.bind == "0.0.0.0:8000"
    assert settings.max_request_body_size_bytes == 1024 * 1024
    assert (settings.db_pool_size, settings.db_max_overflow) == (5, 10)
    assert (settings.gunicorn_timeout, settings.gunicorn_graceful_timeout, settings.gunicorn_keepalive) == (60, 30, 5)
    assert settings.request_timeout == 60
    assert 2 <= settings.web_concurrency <= 4
    assert settings.cors_origins == ()
    assert not settings.require_authenticated_principal


def test_empty_means_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUEST_TIMEOUT_SECONDS", "")
    assert load_settings("api").request_timeout == 60


@pytest.mark.requirement("RUN-02")
def test_cgroup_quotas() -> None:
    assert quota_from_v2("max 100000\n") is None
    assert quota_from_v2("150000 100000\n") == 1.5
    assert quota_from_v1("-1\n", "100000\n") is None
    assert quota_from_v1("200000\n", "100000\n") == 2


@pytest.mark.requirement("RUN-02")
@pytest.mark.parametrize(
    ("cpus", "quota", "workers"), [(1, None, 2), (3, None, 3), (16, None, 4), (16, 3.5, 3), (2, 8.0, 2), (4, 0.5, 2)]
)
def test_as_many_workers_as_the_processors_and_the_quota_let_run(
    monkeypatch: pytest.MonkeyPatch, cpus: int, quota: float | None, workers: int
) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: cpus)
    monkeypatch.setattr(worker_count, "cgroup_quota", lambda: quota)
    assert load_settings("api").web_concurrency == workers


@pytest.mark.requirement("RUN-01", "RUN-03")
def test_gunicorn_takes_its_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As gunicorn itself tells them."""
    given = {"GUNICORN_TIMEOUT": "71", "GUNICORN_GRACEFUL_TIMEOUT": "33", "GUNICORN_KEEPALIVE": "9", "WEB_CONCURRENCY": "3"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GUNICORN_LOG_LEVEL", "error")
    assert load_settings("api").request_timeout == 71
    command = ["gunicorn", "--config", "python:seawall_service.gunicorn_conf", "--print-config", "seawall_service.asgi:app"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    settings = dict(re.findall(r"^(\w+) += (.*)$", told, re.MULTILINE))
    assert [settings[name] for name in ("timeout", "graceful_timeout", "keepalive", "workers")] == list(given.values())
    assert "'level': 'ERROR'" in settings["logconfig_dict"]


@pytest.mark.requirement("CFG-02")
@pytest.mark.parametrize(
    ("variable", "good", "bad"),
    [
        ("PRIMARY_MODEL", ["provider/name", "a/B-1.5:latest"], ["name", "/name", "provider/", "Provider/name", "a/b c"]),
        ("BASE_CURRENCY", ["EUR", "JPY"], ["eur", "EU", "EURO", "E1R"]),
        ("S3_BUCKET", ["backups", "a.b-c", "abc", "x" * 63], ["ab", "x" * 64, "Backups", "a..b", "xn--b", "192.0.2.1", "-ab"]),
        ("JWT_ALGORITHM", ["HS256", "RS512", "ES384", "EdDSA"], ["none", "hs256", "HS1"]),
        ("DATABASE_URL", ["postgresql://a@b/c", "postgresql+psycopg://a@b:5432/c"], ["mysql://a@b/c", "postgresql://a@b", "c"]),
        ("REDIS_URL", ["redis://u@h:6379/0", "rediss://h"], ["h:6379", "redis://", "redis://h/x"]),
    ],
)
def test_forms_of_settings(monkeypatch: pytest.MonkeyPatch, variable: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        monkeypatch.setenv(variable, value)
        load_settings("api")
    for value in bad:
        monkeypatch.setenv(variable, value)
        with pytest.raises(StartupRefused) as refused:
            load_settings("api")
        assert [refusal.variable for refusal in refused.value.refusals] == [variable]


@pytest.mark.requirement("DB-03")
def test_both_spellings_of_the_database_url_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://role@host:5432/name")
    assert load_settings("api").database_url == "postgresql://role@host:5432/name"


@pytest.mark.requirement("CFG-02", "CFG-04")
def test_a_products_settings_are_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PRIMARY_MODEL", "BASE_CURRENCY", "S3_BUCKET"):
        monkeypatch.delenv(variable, raising=False)
    settings = load_settings("api")
    assert (settings.primary_model, settings.base_currency, settings.s3_bucket) == (None, None, None)
