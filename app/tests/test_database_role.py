"""In production the service runs as the application role with exactly its rights, or not at all."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.conftest import Boot
from tests.test_startup_gate import PRODUCTION

OWNER = {
    "DATABASE_URL": os.environ["MIGRATION_DATABASE_URL"],
    "DATABASE_PASSWORD_FILE": os.environ["MIGRATION_DATABASE_PASSWORD_FILE"],
}


def pump(source: socket.socket, target: socket.socket) -> None:
    with source, suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def serve(listener: socket.socket, upstream: tuple[str, int]) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(upstream)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()


@contextmanager
def forwarding(port: int, url: str) -> Iterator[None]:
    """From this moment on the database answers on this port of ours."""
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=serve, args=(listener, (str(parts.hostname), parts.port or 5432)), daemon=True).start()
        yield


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def on_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    return f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"


def test_the_application_role_may_start(boot: Boot) -> None:
    server = boot(**PRODUCTION).start().until_answering("/readyz")
    assert server.get("/api/v1/documents").status == 401


@pytest.mark.parametrize("expected_role", ["seawall_migrator", "seawall_owner"])
def test_the_owner_is_refused_whatever_its_name(boot: Boot, expected_role: str) -> None:
    server = boot(**PRODUCTION | OWNER | {"APP_DB_ROLE": expected_role}).start()
    assert server.wait() == 78
    refusal = json.loads(server.stderr.splitlines()[0])
    assert refusal["variable"] == "DATABASE_URL"
    assert not server.socket.exists()


def test_the_refusal_says_what_is_too_much(boot: Boot) -> None:
    server = boot(**PRODUCTION | OWNER | {"APP_DB_ROLE": "seawall_migrator"}).start()
    assert server.wait() == 78
    assert "logged in as seawall_migrator" in server.stderr


def test_a_right_to_change_history_is_refused(boot: Boot, owner: psycopg.Connection) -> None:
    owner.execute("GRANT UPDATE ON events TO seawall_app")
    try:
        server = boot(**PRODUCTION).start()
        assert server.wait() == 78
        assert "may UPDATE rows of" in server.stderr
    finally:
        owner.execute("REVOKE UPDATE ON events FROM seawall_app")


def test_outside_production_it_is_a_warning(boot: Boot) -> None:
    server = boot(**OWNER).start().until_answering("/readyz")
    assert any(line["event"] == "startup.database_role" for line in server.log_lines)


def test_a_late_database_does_not_stop_the_start(boot: Boot, free_port: int) -> None:
    url = os.environ["DATABASE_URL"]
    server = boot(**PRODUCTION | {"DATABASE_URL": on_port(url, free_port)}).start().until_answering("/healthz")
    assert server.get("/readyz").status == 503
    with forwarding(free_port, url):
        server.until_answering("/readyz")


def test_a_late_database_with_the_wrong_role_ends_the_service(boot: Boot, free_port: int) -> None:
    url = OWNER["DATABASE_URL"]
    wrong = OWNER | {"DATABASE_URL": on_port(url, free_port), "APP_DB_ROLE": "seawall_migrator"}
    server = boot(**PRODUCTION | wrong).start().until_answering("/healthz")
    with forwarding(free_port, url):
        # 3 from the worker that ends first; 1 when gunicorn meets the second one while it is ending.
        assert server.wait() in {1, 3}
    assert "logged in as seawall_migrator" in server.stdout
