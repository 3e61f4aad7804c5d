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
from tests.running_server import RunningServer
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


@pytest.mark.requirement("SEC-02")
def test_the_application_role_may_start(boot: Boot) -> None:
    server = boot(**PRODUCTION).start().until_answering("/readyz")
    assert server.get("/api/v1/documents").status == 401


def refused_at_the_start(boot: Boot, environment: dict[str, str]) -> RunningServer:
    """On a machine so busy that the database is late for the start, the workers judge later: then once more."""
    for _ in range(10):
        server = boot(**environment).start()
        code = server.wait()
        if "startup.database_late" not in server.stdout:
            assert code == 78
            return server
    raise AssertionError("the database was late for each of the starts")


@pytest.mark.requirement("SEC-02")
@pytest.mark.parametrize(
    ("expected_role", "reason"),
    [("seawall_migrator", "logged in as seawall_migrator"), ("seawall_owner", "logs in as seawall_migrator, which is not")],
)
def test_the_owner_is_refused_whatever_its_name(boot: Boot, expected_role: str, reason: str) -> None:
    server = refused_at_the_start(boot, PRODUCTION | OWNER | {"APP_DB_ROLE": expected_role})
    refusal = json.loads(server.stderr.splitlines()[0])
    assert refusal["variable"] == "DATABASE_URL"
    assert reason in refusal["problem"]
    assert not server.socket.exists()


def trigger_on(event: str, condition: str = "") -> str:
    """The append-only trigger as somebody would make it who wants to pass it."""
    return (
        "DROP TRIGGER seawall_append_only ON events;"
        f"CREATE TRIGGER seawall_append_only BEFORE {event} OR DELETE OR TRUNCATE ON events"
        f" FOR EACH STATEMENT {condition} EXECUTE FUNCTION seawall.refuse_mutation();"
        "ALTER TABLE events ENABLE ALWAYS TRIGGER seawall_append_only"
    )


@contextmanager
def changed_by_hand(owner: psycopg.Connection, statements: str) -> Iterator[None]:
    owner.execute(statements.encode())
    try:
        yield
    finally:
        # Any change of a table makes the database grant anew what its name asks for.
        owner.execute("DROP TRIGGER IF EXISTS seawall_append_only ON events; ALTER TABLE events ALTER type SET STATISTICS -1")
        assert owner.execute("SELECT * FROM seawall.grant_drift").fetchall() == []


@pytest.mark.requirement("SEC-02")
@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ("GRANT UPDATE ON events TO seawall_app", "may UPDATE rows of"),
        ("GRANT UPDATE (type) ON events TO seawall_app", "column grant events seawall_app UPDATE (type)"),
        ("GRANT SELECT ON events TO PUBLIC", "extra grant events PUBLIC SELECT"),
        ("REVOKE INSERT ON events FROM seawall_app", "missing grant events seawall_app INSERT"),
        ("DROP TRIGGER seawall_append_only ON events", "append-only trigger missing or off events"),
        (trigger_on("UPDATE", "WHEN (false)"), "append-only trigger missing or off events"),
        (trigger_on("UPDATE OF type"), "append-only trigger missing or off events"),
    ],
)
def test_a_way_to_change_history_is_refused(boot: Boot, owner: psycopg.Connection, statements: str, reason: str) -> None:
    with changed_by_hand(owner, statements):
        assert reason in refused_at_the_start(boot, PRODUCTION).stderr


@pytest.mark.parametrize(
    "statement", ["GRANT DELETE ON events TO seawall_readonly", "GRANT UPDATE (type) ON events TO seawall_readonly"]
)
def test_a_hand_in_the_grants_of_others_is_a_warning(boot: Boot, owner: psycopg.Connection, statement: str) -> None:
    with changed_by_hand(owner, statement):
        server = boot(**PRODUCTION).start().until_answering("/readyz")
        warnings = [line for line in server.log_lines if line["event"] == "startup.grants_drifted"]
        assert "seawall_readonly" in warnings[0]["drift"][0]


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
