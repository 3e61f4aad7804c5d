"""Liveness touches nothing. Readiness wants the database and this image's schema, and answers within two seconds."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
import structlog
from starlette.testclient import TestClient

from seawall_service import lifespan
from seawall_service.db.pool import Database
from seawall_service.db.revision import expected_revision
from seawall_service.main import create_app
from seawall_service.startup_gate import load_settings
from tests.conftest import Boot, client_of

HEAD = expected_revision()
LIVE = ["/healthz", "/health", "/api/v1/health/live"]
READY = ["/readyz", "/api/v1/health/ready"]


@contextmanager
def api_with(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Iterator[TestClient]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with client_of(create_app(load_settings("api"))) as client:
        yield client


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accepts connections and never says a word: worse than a closed port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.requirement("HLT-01")
@pytest.mark.parametrize("path", LIVE)
def test_live(api: TestClient, path: str) -> None:
    assert api.get(path).json() == {"status": "ok"}


@pytest.mark.parametrize("path", LIVE + READY)
def test_a_good_probe_is_no_news(api: TestClient, path: str) -> None:
    with structlog.testing.capture_logs() as lines:
        assert api.get(path).status_code == 200
    assert [line["log_level"] for line in lines if line["event"] == "request"] == ["debug"]


def test_probes_answer_head_without_a_body(boot: Boot) -> None:
    server = boot().start().until_answering("/readyz")
    for path in LIVE + READY:
        with closing(socket.socket(socket.AF_UNIX)) as raw:
            # By hand, since HTTP clients do not read what they do not expect.
            raw.settimeout(10)
            raw.connect(str(server.socket))
            raw.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            with raw.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert f"content-length: {server.get(path).headers['Content-Length']}".encode() in head
        assert body == b""


@pytest.mark.requirement("HLT-02")
@pytest.mark.parametrize("path", READY)
def test_ready(api: TestClient, path: str) -> None:
    response = api.get(path)
    assert response.status_code == 200
    checks = response.json()["checks"]
    assert {name: check["ok"] for name, check in checks.items()} == {"database": True, "schema": True, "cache": True}
    assert checks["schema"]["actual"] == checks["schema"]["expected"]
    assert checks["cache"]["configured"] is True


@pytest.mark.requirement("HLT-01", "HLT-02", "ERR-01")
def test_database_refuses_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    with api_with(monkeypatch, DATABASE_URL="postgresql://seawall_app@127.0.0.1:9/app") as client:
        for path in LIVE:
            assert client.get(path).status_code == 200
        for path in READY:
            response = client.get(path)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "service_unavailable"
            assert response.json()["error"]["details"]["database"]["ok"] is False
            assert response.headers["Retry-After"] == "1"
        refused = client.get("/api/v1/documents")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "service_unavailable"


def seconds_of_an_answer(client: TestClient, status: int) -> float:
    """Of several the shortest counts: the machine may be busy, and a deadline that is missing is missing each time."""
    started = time.perf_counter()
    assert client.get("/readyz").status_code == status
    return time.perf_counter() - started


@pytest.mark.requirement("HLT-02")
def test_database_is_silent(monkeypatch: pytest.MonkeyPatch, silent_port: int) -> None:
    with api_with(monkeypatch, DATABASE_URL=f"postgresql://seawall_app@127.0.0.1:{silent_port}/app") as client:
        assert min(seconds_of_an_answer(client, 503) for _ in range(5)) < 2


@pytest.mark.requirement("HLT-02")
def test_schema_of_another_release(api: TestClient, owner: psycopg.Connection) -> None:
    ours = expected_revision()
    owner.execute("UPDATE alembic_version SET version_num = '0002'")
    try:
        response = api.get("/readyz")
        assert response.status_code == 503
        assert response.json()["error"]["details"]["schema"] == {"ok": False, "expected": ours, "actual": "0002"}
        assert api.get("/healthz").status_code == 200
    finally:
        owner.execute("UPDATE alembic_version SET version_num = %s", (ours,))
    assert api.get("/readyz").status_code == 200


@pytest.mark.requirement("HLT-02", "RL-11")
@pytest.mark.parametrize("cache", ["closed", "silent", "wrong password", "none"])
def test_the_cache_is_reported_but_not_needed(
    monkeypatch: pytest.MonkeyPatch, silent_port: int, cache: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wrong = tmp_path_factory.mktemp("secret") / "password"
    wrong.write_text("wrong", encoding="utf-8")
    environment = {
        "closed": {"REDIS_URL": "redis://seawall@127.0.0.1:9/0"},
        "silent": {"REDIS_URL": f"redis://seawall@127.0.0.1:{silent_port}/0"},
        "wrong password": {"REDIS_PASSWORD_FILE": str(wrong)},
        "none": {"REDIS_URL": ""},
    }[cache]
    with api_with(monkeypatch, **environment) as client:
        response = client.get("/readyz")
        assert response.status_code == 200
        assert min(seconds_of_an_answer(client, 200) for _ in range(5)) < 2
        assert response.json()["checks"]["cache"]["ok"] is (cache == "none")
        assert response.json()["checks"]["cache"]["configured"] is (cache != "none")


def test_the_pool_is_closed_whatever_becomes_of_the_judgement(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Database] = []
    close = Database.close

    async def fail(_: Database) -> None:
        raise RuntimeError("unforeseen")

    async def note(database: Database) -> None:
        await close(database)
        closed.append(database)

    async def open_and_close() -> None:
        async with lifespan.open_database(load_settings("api")):
            await asyncio.sleep(0.1)

    monkeypatch.setenv("DATABASE_URL", "postgresql://seawall_app@127.0.0.1:9/app")
    monkeypatch.setattr(lifespan, "FIRST_JUDGEMENT_SECONDS", 0.1)
    monkeypatch.setattr(lifespan, "judge_or_exit", fail)
    monkeypatch.setattr(Database, "close", note)
    with pytest.raises(RuntimeError, match="unforeseen"):
        asyncio.run(open_and_close())
    assert len(closed) == 1
