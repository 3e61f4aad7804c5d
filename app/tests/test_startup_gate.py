"""Settings that would be insecure or cannot work are refused, all at once, each with the variable and the cure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seawall_service.startup_gate import EXIT_REFUSED, StartupRefused, load_settings
from tests.conftest import Boot

PRODUCTION = {
    "APP_ENV": "production",
    "REQUIRE_AUTHENTICATED_PRINCIPAL": "true",
    "CORS_ORIGINS": "https://example.org",
    "METRICS_ENABLED": "false",
}


def refused(monkeypatch: pytest.MonkeyPatch, component: str, environment: dict[str, str]) -> list[str]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        load_settings("auth" if component == "auth" else "api")
    except StartupRefused as error:
        return [refusal.variable for refusal in error.refusals if refusal.problem and refusal.cure]
    return []


@pytest.mark.requirement("SEC-01", "SEC-02", "SEC-08", "SEC-11", "DB-01", "DB-03")
@pytest.mark.parametrize(
    ("environment", "variables"),
    [
        ({}, []),
        ({"APP_ENV": "PROD"}, []),
        ({"APP_ENV": "", "ENV": "production"}, []),
        ({"ENV": "dev"}, ["ENV"]),
        ({"APP_ENV": "produktion"}, ["APP_ENV"]),
        ({"REQUIRE_AUTHENTICATED_PRINCIPAL": "false"}, ["REQUIRE_AUTHENTICATED_PRINCIPAL"]),
        ({"APP_ENV": "PROD", "REQUIRE_AUTHENTICATED_PRINCIPAL": ""}, ["REQUIRE_AUTHENTICATED_PRINCIPAL"]),
        ({"DATABASE_URL": "postgresql://seawall_owner@db/app"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgresql://seawall_app:secret@db/app"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgresql://seawall_app@db/app?password=secret"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgresql://seawall_app@db/app?user=postgres"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgresql://db/app"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgresql://seawall_app@db"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgresql://seawall_app@db/app?nonsense=1"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "host=db user=seawall_app dbname=app"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgresql://seawall%5Fapp@db/app?connect_timeout=3"}, []),
        ({"DATABASE_URL": "postgresql+psycopg://seawall_app@db:5432/app"}, []),
        ({"DATABASE_URL": "mysql://seawall_app@db/app"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": ""}, ["DATABASE_URL"]),
        ({"REDIS_URL": "redis://:secret@cache:6379/0"}, ["REDIS_URL"]),
        ({"REDIS_URL": "cache:6379"}, ["REDIS_URL"]),
        ({"DATABASE_PASSWORD_FILE": "/does/not/exist"}, ["DATABASE_PASSWORD_FILE"]),
        ({"CORS_ORIGINS": ""}, ["CORS_ORIGINS"]),
        ({"CORS_ORIGINS": "*"}, ["CORS_ORIGINS"]),
        ({"CORS_ORIGINS": "https://example.org/path"}, ["CORS_ORIGINS"]),
        ({"DATABASE_PASSWORD_FILE": ""}, ["DATABASE_PASSWORD_FILE"]),
        ({"REDIS_PASSWORD_FILE": ""}, ["REDIS_PASSWORD_FILE"]),
        ({"REDIS_PASSWORD_FILE": "", "REDIS_URL": ""}, []),
        ({"DB_POOL_SIZE": "0"}, ["DB_POOL_SIZE"]),
        ({"DB_POOL_SIZE": "1001"}, ["DB_POOL_SIZE"]),
        ({"REQUEST_TIMEOUT_SECONDS": "inf"}, ["REQUEST_TIMEOUT_SECONDS"]),
        ({"REQUEST_TIMEOUT_SECONDS": "0.001"}, ["REQUEST_TIMEOUT_SECONDS"]),
        ({"GUNICORN_TIMEOUT": "99999999"}, ["GUNICORN_TIMEOUT"]),
        ({"ACCESS_TOKEN_TTL_SECONDS": "43201"}, ["ACCESS_TOKEN_TTL_SECONDS"]),
        ({"PASSWORD_HASH_CONCURRENCY": "65"}, ["PASSWORD_HASH_CONCURRENCY"]),
        ({"WS_MAX_SOCKETS_GLOBAL": "10000000000"}, ["WS_MAX_SOCKETS_GLOBAL"]),
        ({"WS_SEND_QUEUE": "10001"}, ["WS_SEND_QUEUE"]),
        ({"MAX_REQUEST_BODY_SIZE_BYTES": "999999999999999"}, ["MAX_REQUEST_BODY_SIZE_BYTES"]),
        ({"FORWARDED_ALLOW_IPS": "0.0.0.0/1,128.0.0.0/1"}, ["FORWARDED_ALLOW_IPS", "FORWARDED_ALLOW_IPS"]),
        ({"DB_MAX_OVERFLOW": "-1"}, ["DB_MAX_OVERFLOW"]),
        ({"DB_MAX_OVERFLOW": "0"}, ["DB_MAX_OVERFLOW"]),
        ({"MAX_REQUEST_BODY_SIZE_BYTES": "1MiB"}, ["MAX_REQUEST_BODY_SIZE_BYTES"]),
        ({"SEAWALL_BIND": "8000"}, ["SEAWALL_BIND"]),
        ({"WS_LIMITS_ENABLED": "true"}, ["WS_ALLOWED_ORIGINS"]),
        ({"WS_LIMITS_ENABLED": "true", "WS_ALLOWED_ORIGINS": "https://a.example,*"}, ["WS_ALLOWED_ORIGINS"]),
        ({"WS_LIMITS_ENABLED": "true", "WS_ALLOWED_ORIGINS": "https://a.example"}, []),
        ({"WS_MAX_MESSAGE_BYTES": "65536"}, ["WS_MAX_MESSAGE_BYTES"]),
        ({"FORWARDED_ALLOW_IPS": "edge"}, ["FORWARDED_ALLOW_IPS"]),
        ({"FORWARDED_ALLOW_IPS": "*"}, ["FORWARDED_ALLOW_IPS"]),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.0/8,0.0.0.0/0"}, ["FORWARDED_ALLOW_IPS"]),
        ({"FORWARDED_ALLOW_IPS": "::/0"}, ["FORWARDED_ALLOW_IPS"]),
        ({"FORWARDED_ALLOW_IPS": "::ffff:0.0.0.0/96"}, ["FORWARDED_ALLOW_IPS"]),
        ({"FORWARDED_ALLOW_IPS": "::ffff:0:0/97,::ffff:10.0.0.0/104"}, ["FORWARDED_ALLOW_IPS"]),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.1/8"}, ["FORWARDED_ALLOW_IPS"]),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.1/32,2001:DB8:0::/48"}, []),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.0/8,::1"}, []),
        ({"FORWARDED_ALLOW_IPS": "*", "SEAWALL_BIND": "unix:/run/http.sock"}, []),
        ({"JWT_ALGORITHM": "none"}, ["JWT_ALGORITHM"]),
        ({"LOG_LEVEL": "loud"}, ["LOG_LEVEL"]),
        ({"METRICS_ENABLED": "true", "WEB_CONCURRENCY": "2"}, ["PROMETHEUS_MULTIPROC_DIR"]),
        ({"METRICS_ENABLED": "true", "PROMETHEUS_MULTIPROC_DIR": "/nowhere"}, ["PROMETHEUS_MULTIPROC_DIR"]),
        ({"RATE_LIMIT_ENABLED": "true"}, []),
        ({"RATE_LIMIT_ENABLED": "true", "REDIS_URL": ""}, ["REDIS_URL"]),
        ({"CACHE_ENABLED": "true", "REDIS_URL": ""}, ["REDIS_URL"]),
        ({"RATE_LIMIT_ENABLED": "false", "CACHE_ENABLED": "", "REDIS_URL": ""}, []),
        ({"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_REQUESTS": "60001"}, ["RATE_LIMIT_REQUESTS"]),
        ({"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_REQUESTS": "60000"}, []),
        ({"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PER_MINUTE_DEFAULT": "60001"}, ["RATE_LIMIT_PER_MINUTE_DEFAULT"]),
        ({"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_BURST_DEFAULT": "1001"}, ["RATE_LIMIT_BURST_DEFAULT"]),
        ({"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_DEGRADED_SECONDS": "301"}, ["RATE_LIMIT_DEGRADED_SECONDS"]),
        ({"RATE_LIMIT_BURST_DEFAULT": "1001"}, []),
        ({"RATE_LIMIT_REQUESTS": "0"}, ["RATE_LIMIT_REQUESTS"]),
        ({"RATE_LIMIT_KEY_STRATEGY": "cookie"}, ["RATE_LIMIT_KEY_STRATEGY"]),
        ({"CORS_ORIGINS": "", "REQUIRE_AUTHENTICATED_PRINCIPAL": "0"}, ["REQUIRE_AUTHENTICATED_PRINCIPAL", "CORS_ORIGINS"]),
        ({"LOG_LEVEL": "loud", "DB_POOL_SIZE": "x"}, ["LOG_LEVEL", "DB_POOL_SIZE"]),
        # What cannot be read hides nothing else that is wrong.
        (
            {"DB_POOL_SIZE": "x", "CORS_ORIGINS": "", "REQUIRE_AUTHENTICATED_PRINCIPAL": "0"},
            ["DB_POOL_SIZE", "REQUIRE_AUTHENTICATED_PRINCIPAL", "CORS_ORIGINS"],
        ),
        ({"DATABASE_URL": "", "CORS_ORIGINS": "*"}, ["DATABASE_URL", "CORS_ORIGINS"]),
    ],
)
def test_production_table(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], variables: list[str]) -> None:
    assert refused(monkeypatch, "api", PRODUCTION | environment) == variables


def test_development_is_lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, "api", {"APP_ENV": "", "CORS_ORIGINS": "", "REQUIRE_AUTHENTICATED_PRINCIPAL": ""}) == []


@pytest.mark.parametrize(
    ("environment", "variables"),
    [
        ({"OIDC_ISSUER": "https://id.example.org", "OIDC_AUDIENCE": "seawall"}, []),
        ({"OIDC_ISSUER": "https://id.example.org"}, ["OIDC_AUDIENCE"]),
        ({"OIDC_ISSUER": "http://id.example.org", "OIDC_AUDIENCE": "seawall"}, ["OIDC_ISSUER"]),
        ({"OIDC_ISSUER": "seawall", "OIDC_AUDIENCE": "seawall"}, ["OIDC_ISSUER"]),
        ({"OIDC_JWKS_URL": "https://id.example.org/keys"}, ["OIDC_ISSUER"]),
        (
            {"OIDC_ISSUER": "https://id.example.org", "OIDC_AUDIENCE": "s", "OIDC_JWKS_URL": "http://id.example.org/keys"},
            ["OIDC_JWKS_URL"],
        ),
        ({"RATE_LIMIT_ENABLED": "true", "REDIS_URL": ""}, ["REDIS_URL"]),
    ],
)
def test_production_table_of_the_gateway(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], variables: list[str]
) -> None:
    assert refused(monkeypatch, "auth", PRODUCTION | environment) == variables


@pytest.mark.requirement("SEC-11")
@pytest.mark.parametrize("variable", ["DATABASE_PASSWORD_FILE", "REDIS_PASSWORD_FILE"])
@pytest.mark.parametrize("password", ["changeme", "changemechangeme", "a" * 40])
def test_weak_passwords(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, password: str) -> None:
    file = tmp_path / "password"
    file.write_text(password, encoding="utf-8")
    assert refused(monkeypatch, "api", {variable: str(file)}) == []
    assert refused(monkeypatch, "api", PRODUCTION | {variable: str(file)}) == [variable]


@pytest.mark.requirement("SEC-11")
@pytest.mark.parametrize("secret", ["", "changethis", "x" * 64, "short-but-varied-0123456789", None])
def test_weak_signing_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: str | None) -> None:
    file = tmp_path / "jwt"
    if secret is not None:
        file.write_text(secret, encoding="utf-8")
    for environment in ({}, PRODUCTION):
        assert refused(monkeypatch, "auth", environment | {"JWT_SECRET_FILE": str(file)}) == ["JWT_SECRET_FILE"]


def test_the_gateway_needs_a_signing_key_and_the_api_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, "auth", PRODUCTION | {"JWT_SECRET_FILE": ""}) == ["JWT_SECRET_FILE"]
    assert refused(monkeypatch, "api", PRODUCTION | {"JWT_SECRET_FILE": ""}) == []


@pytest.mark.requirement("SEC-01", "SEC-08")
@pytest.mark.parametrize("application", ["asgi", "auth_asgi"])
def test_the_real_server_refuses_before_it_binds(boot: Boot, application: str) -> None:
    server = boot(
        application, **PRODUCTION | {"REQUIRE_AUTHENTICATED_PRINCIPAL": "false", "CORS_ORIGINS": "", "JWT_SECRET_FILE": ""}
    ).start()
    assert server.wait() == 78
    lines = [json.loads(line) for line in server.stderr.splitlines()]
    expected = ["REQUIRE_AUTHENTICATED_PRINCIPAL", "CORS_ORIGINS"] + ["JWT_SECRET_FILE"] * (application == "auth_asgi")
    assert [line["variable"] for line in lines] == expected
    assert {line["event"] for line in lines} == {"startup.refused"}
    assert server.stdout == ""
    assert not server.socket.exists()


def test_what_is_wrong_with_a_url_does_not_show_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://seawall_app:kept secret@db/app")
    with pytest.raises(StartupRefused) as refused:
        load_settings("api")
    assert "secret" not in str(refused.value)


def test_an_image_without_its_schema_revision_is_refused_before_anything_listens() -> None:
    script = (
        "from pathlib import Path; from seawall_service.db import revision; revision.HEAD_FILE = Path('/nowhere');"
        "import seawall_service.gunicorn_conf"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stdout) == (EXIT_REFUSED, "")
    assert json.loads(run.stderr)["variable"] == "/nowhere"


def test_a_refusal_in_a_worker_ends_the_service(boot: Boot, tmp_path: Path) -> None:
    """Of a later worker, that is: without the end, gunicorn would start one after the other."""
    key = tmp_path / "key"
    key.write_bytes(Path(os.environ["JWT_SECRET_FILE"]).read_bytes())
    server = boot("auth_asgi", JWT_SECRET_FILE=str(key)).start()
    deadline = time.monotonic() + 60
    while server.stdout.count("Application startup complete") < 2:
        assert time.monotonic() < deadline, server.stdout
        time.sleep(0.1)
    key.unlink()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    assert server.wait() == 3
    assert "JWT_SECRET_FILE" in server.stdout
