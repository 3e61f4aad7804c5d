"""The real service with a database and a cache that fail in real ways, while it is used.

Whatever fails, an answer is right or an enveloped 503 with Retry-After; /healthz does not care; /readyz tells; nothing that was
acknowledged is lost; and a command sent again with its key is not done twice.
"""

import contextlib
import http.client
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from seawall_service.db.pool import RECONNECT_TIMEOUT_SECONDS
from tests.conftest import ALL_FEATURES, connect
from tests.running_server import Answer, RunningServer
from tests.tcp_proxy import Proxy

SEED = 4
WRITERS = 4
FAULT_SECONDS = 2.0
# Generous, for a busy machine: it is a few seconds on an idle one, and two at the most for readiness.
RECOVERY_SECONDS = 60.0
READY_SECONDS = 6.0
READY_IN_A_ROW = 12
PAUSE_SECONDS = 0.02

ENVIRONMENT = {
    "DB_POOL_SIZE": "2",
    "DB_MAX_OVERFLOW": "2",
    # Long enough for a busy machine, short enough to see what happens at the deadlines.
    "REQUEST_TIMEOUT_SECONDS": "8",
    **ALL_FEATURES,
}


@dataclass
class Service:
    server: RunningServer
    database: Proxy
    cache: Proxy

    def ready_status(self) -> int:
        started = time.monotonic()
        status = self.server.get("/readyz").status
        assert time.monotonic() - started < READY_SECONDS
        return status

    def until_ready(self) -> None:
        """All workers, of which any may answer."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        ready = 0
        while ready < READY_IN_A_ROW:
            ready = ready + 1 if self.ready_status() == 200 else 0
            assert time.monotonic() < deadline, self.server.stdout[-3000:]
            if not ready:
                time.sleep(0.1)


@dataclass
class Load:
    """Writers that append entries, each sending its command again with its key until that is acknowledged."""

    service: Service
    user: str = field(default_factory=lambda: str(uuid4()))
    document: str = ""
    answers: Counter[int] = field(default_factory=Counter)
    wrong: list[object] = field(default_factory=list)
    acknowledged: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> "Load":
        created = self.service.server.post("/api/v1/documents", {"title": "Log book"}, {"X-Principal-Id": self.user})
        assert created.status == 201, created.body
        self.document = created.json()["id"]
        self._ending = threading.Event()
        self._writers = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        for writer in self._writers:
            writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for writer in self._writers:
            writer.join(2 * RECOVERY_SECONDS)
            assert not writer.is_alive()

    def _write(self, number: int) -> None:
        count = 0
        while not self._ending.is_set():
            count += 1
            self._append_until_acknowledged(f"{number}-{count}")
            time.sleep(PAUSE_SECONDS)

    def _append_until_acknowledged(self, content: str) -> None:
        headers = {"X-Principal-Id": self.user, "Idempotency-Key": f"{self.document}-{content}"}
        deadline = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < deadline:
            # A worker that is killed takes its connections with it: no answer, and so nothing acknowledged.
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = self.service.server.post(f"/api/v1/documents/{self.document}/entries", {"content": content}, headers)
                self.answers[answer.status] += 1
                if answer.status == 201:
                    self.acknowledged.append((content, answer.json()["id"]))
                    return
                if not is_refusal(answer):
                    self.wrong.append((answer.status, answer.body))
            time.sleep(PAUSE_SECONDS)
        self.wrong.append(f"{content} was never acknowledged")

    def check(self, owner: psycopg.Connection) -> None:
        assert self.wrong == []
        assert self.acknowledged
        stored = owner.execute(
            "SELECT content, id::text, position FROM app.entries_document WHERE document_id = %s", (self.document,)
        )
        rows = stored.fetchall()
        assert sorted((content, entry) for content, entry, _ in rows) == sorted(self.acknowledged)
        assert sorted(position for *_, position in rows) == list(range(1, len(rows) + 1))


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "c2l4dGVlbiBieXRlcyBhYg==",
}


def is_refusal(answer: Answer) -> bool:
    if answer.status != 503 or answer.headers["Retry-After"] != "1":
        return False
    error = answer.json()["error"]
    return bool(error["code"] == "service_unavailable" and error["request_id"] == answer.headers["X-Request-ID"])


@contextlib.contextmanager
def behind_lines_that_fail(directory: Path, application: str) -> Iterator[Service]:
    with Proxy("db", 5432) as database, Proxy("cache", 6379) as cache:
        urls = {
            "DATABASE_URL": f"postgresql://seawall_app@127.0.0.1:{database.port}/app",
            "REDIS_URL": f"redis://seawall@127.0.0.1:{cache.port}/0",
        }
        server = RunningServer(directory / "server", application, ENVIRONMENT | urls)
        try:
            server.start().until_answering("/readyz")
            yield Service(server, database, cache)
        finally:
            server.kill()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with behind_lines_that_fail(tmp_path_factory.mktemp("faults"), "asgi") as running:
        yield running


@contextlib.contextmanager
def refused(service: Service) -> Iterator[None]:
    service.database.refuse()
    yield
    service.database.heal()


@contextlib.contextmanager
def frozen(service: Service) -> Iterator[None]:
    service.database.freeze()
    yield
    service.database.heal()


def connection_limit(connection: psycopg.Connection) -> int:
    found = connection.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user").fetchone()
    assert found is not None
    assert found[0] > 0
    return int(found[0])


def backends_of_tests(connection: psycopg.Connection) -> set[int]:
    """The role's backends that are not the service's."""
    found = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE usename = current_user AND application_name <> 'seawall-service'"
    )
    return {pid for (pid,) in found}


def terminate(connection: psycopg.Connection) -> None:
    """Every connection of the service, in the middle of whatever it does: what a restart of the database does to it."""
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'seawall-service'")


@contextlib.contextmanager
def out_of_connections(_: Service) -> Iterator[None]:
    """The role's connections are all taken, and those that the service had are lost."""
    with contextlib.ExitStack() as taken:
        first = taken.enter_context(connect("DATABASE_URL", "DATABASE_PASSWORD_FILE"))
        # Fixtures may have some, too.
        held = backends_of_tests(first)
        deadline = time.monotonic() + RECOVERY_SECONDS
        # Every one of them is held by a test before the fault begins: the service connects again meanwhile, and one that it has
        # just lost counts until its backend has ended.
        while len(held & backends_of_tests(first)) < connection_limit(first):
            assert time.monotonic() < deadline, f"{len(held)} connections"
            try:
                held.add(taken.enter_context(connect("DATABASE_URL", "DATABASE_PASSWORD_FILE")).info.backend_pid)
            except psycopg.OperationalError:
                terminate(first)
        yield


@pytest.mark.requirement("ERR-01", "HLT-01", "HLT-02", "DB-05")
@pytest.mark.parametrize("fault", [refused, frozen, out_of_connections])
def test_without_a_database(
    service: Service, owner: psycopg.Connection, fault: Callable[[Service], contextlib.AbstractContextManager[None]]
) -> None:
    service.until_ready()
    with Load(service) as load:
        time.sleep(0.3)
        with fault(service):
            ended = time.monotonic() + FAULT_SECONDS
            told = []
            while time.monotonic() < ended:
                assert service.server.get("/healthz").status == 200
                told.append(service.ready_status())
            assert told[-1] == 503
            refused = service.server.get("/api/v1/documents", {"X-Principal-Id": load.user})
            assert is_refusal(refused), (refused.status, refused.body)
            upgrade = service.server.get(f"/api/v1/documents/{load.document}/live", UPGRADE | {"X-Principal-Id": load.user})
            assert is_refusal(upgrade), (upgrade.status, upgrade.body)
        service.until_ready()
    load.check(owner)
    assert load.answers[503]


@pytest.mark.requirement("ERR-01", "DB-05")
def test_a_database_that_is_restarted_again_and_again(service: Service, owner: psycopg.Connection) -> None:
    service.until_ready()
    moments = random.Random(SEED)
    with connect("DATABASE_URL", "DATABASE_PASSWORD_FILE") as killer, Load(service) as load:
        for number in range(8):
            time.sleep(moments.uniform(0.05, 0.4))
            if number % 2:
                service.database.cut()
            else:
                terminate(killer)
    service.until_ready()
    load.check(owner)


@pytest.mark.requirement("DB-05")
def test_an_outage_of_which_the_pool_has_given_up(service: Service, owner: psycopg.Connection) -> None:
    """It asks ever less often, and gives up for a while: who comes later makes it ask again."""
    service.until_ready()
    with Load(service) as load:
        service.database.refuse()
        time.sleep(2 * RECONNECT_TIMEOUT_SECONDS)
        service.database.heal()
        service.until_ready()
    load.check(owner)


@pytest.mark.requirement("ERR-01", "DB-05")
def test_a_slow_database(service: Service, owner: psycopg.Connection) -> None:
    service.until_ready()
    with Load(service) as load:
        service.database.throttle(0.05)
        time.sleep(FAULT_SECONDS)
        service.database.heal()
    load.check(owner)


@pytest.mark.requirement("ERR-01", "DB-05")
def test_a_locked_row(service: Service, owner: psycopg.Connection) -> None:
    """A writer that waits gets a 503 when its time is over, and others are not held up."""
    service.until_ready()
    with Load(service) as load:
        with connect("DATABASE_URL", "DATABASE_PASSWORD_FILE") as holder, holder.transaction():
            holder.execute("SELECT 1 FROM proj_documents WHERE id = %s FOR UPDATE", (UUID(load.document),))
            deadline = time.monotonic() + RECOVERY_SECONDS
            while not load.answers[503]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        service.until_ready()
    load.check(owner)


@pytest.mark.requirement("DB-05", "RUN-03")
def test_workers_that_are_killed(service: Service, owner: psycopg.Connection) -> None:
    service.until_ready()
    moments = random.Random(SEED)
    with Load(service) as load:
        for _ in range(3):
            time.sleep(moments.uniform(0.1, 0.5))
            os.kill(moments.choice(service.server.worker_pids()), signal.SIGKILL)
            service.server.until_answering("/readyz")
    service.until_ready()
    load.check(owner)


@pytest.mark.requirement("HLT-02", "RL-11", "CACHE-03")
@pytest.mark.parametrize("fault", ["refuse", "freeze", "cut"])
def test_without_a_cache(service: Service, owner: psycopg.Connection, fault: str) -> None:
    service.until_ready()
    with Load(service) as load:
        getattr(service.cache, fault)()
        ended = time.monotonic() + 1
        while time.monotonic() < ended:
            assert service.ready_status() == 200
            assert service.server.get("/healthz").status == 200
            assert service.server.get("/api/v1/documents", {"X-Principal-Id": load.user}).status == 200
        told = service.server.get("/readyz").json()["checks"]["cache"]
        assert (told["ok"], told["fatal"]) == (fault == "cut", False)
        service.cache.heal()
    load.check(owner)
    assert set(load.answers) == {201}


@pytest.mark.requirement("ERR-01", "DB-05")
def test_a_command_whose_commit_was_not_confirmed(service: Service, owner: psycopg.Connection) -> None:
    """The database has done it and the service never heard: the same key finds out, and does not do it twice."""
    service.until_ready()
    headers = {"X-Principal-Id": str(uuid4()), "Idempotency-Key": "one"}
    service.database.cut_after(b"COMMIT")
    first = service.server.post("/api/v1/documents", {"title": "Log book"}, headers)
    assert is_refusal(first), (first.status, first.body)
    done = owner.execute("SELECT id::text FROM app.proj_documents WHERE owner_id = %s", (headers["X-Principal-Id"],)).fetchall()
    assert len(done) == 1
    service.until_ready()
    second = service.server.post("/api/v1/documents", {"title": "Log book"}, headers)
    assert second.status == 201
    assert second.json()["id"] == done[0][0]
    listed = service.server.get("/api/v1/documents", {"X-Principal-Id": headers["X-Principal-Id"]})
    assert len(listed.json()["items"]) == 1
