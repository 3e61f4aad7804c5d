"""The real gunicorn: its socket, its health check, and how it ends."""

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

import psycopg
import pytest

from tests.conftest import Boot
from tests.running_server import RunningServer
from tests.test_faults import UPGRADE

EDGE_GROUP = 10101
BODY = b'{"title": "sent in two halves"}'


def begin_request(server: RunningServer, user: str) -> http.client.HTTPConnection:
    """A request of which the server has the head and half of the body."""
    connection = server.connection()
    connection.putrequest("POST", "/api/v1/documents")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.putheader("X-Principal-Id", user)
    connection.endheaders(BODY[:10])
    return connection


@pytest.mark.requirement("RUN-03")
def test_a_request_in_flight_is_finished_on_sigterm(boot: Boot) -> None:
    server = boot().start().until_answering("/readyz")
    user = str(uuid4())
    with closing(begin_request(server, user)) as connection:
        time.sleep(0.5)
        server.terminate()
        time.sleep(1)
        connection.send(BODY[10:])
        assert connection.getresponse().status == 201
        assert server.wait() == 0
    assert not server.socket.exists()


@pytest.mark.requirement("RUN-03")
def test_a_request_without_end_does_not_hold_the_shutdown_up(boot: Boot) -> None:
    server = boot(GUNICORN_GRACEFUL_TIMEOUT="8", REQUEST_TIMEOUT_SECONDS="60").start().until_answering("/readyz")
    server.until_all_started()
    with closing(begin_request(server, str(uuid4()))) as connection:
        time.sleep(0.5)
        server.terminate()
        response = connection.getresponse()
        error = json.loads(response.read())["error"]
        assert (response.status, response.headers["Retry-After"], error["code"]) == (503, "1", "service_unavailable")
        assert error["request_id"] == response.headers["X-Request-ID"]
        assert server.wait() == 0
    errors = [line["event"] for line in server.log_lines if line["level"] == "error"]
    assert errors == ["Cancel 1 running task(s), timeout graceful shutdown exceeded"]
    # Of both workers: one that had to be killed at the end of the grace period would not say so.
    assert server.said("Application shutdown complete") == 2


def test_what_the_master_loads_before_it_forks_opens_and_starts_nothing() -> None:
    seen = "(set(os.listdir('/proc/self/fd')), threading.enumerate())"
    program = f"import os, threading; before = {seen}; import seawall_service.main; assert {seen} == before, {seen}"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr


@contextmanager
def waiting_upgrade(server: RunningServer, owner: psycopg.Connection) -> Iterator[http.client.HTTPConnection]:
    """A stranger's request to upgrade that waits for the database, until the block ends: then it is refused."""
    asked = UPGRADE | {"X-Principal-Id": str(uuid4()), "X-Request-ID": "the-upgrade"}
    with closing(server.connection()) as connection, owner.transaction():
        owner.execute("LOCK TABLE proj_documents IN ACCESS EXCLUSIVE MODE")
        connection.request("GET", f"/api/v1/documents/{uuid4()}/live", headers=asked)
        time.sleep(1)
        yield connection


@pytest.mark.requirement("ERR-10")
def test_who_is_gone_before_his_upgrade_is_refused_is_no_failure(boot: Boot, owner: psycopg.Connection) -> None:
    server = boot(REQUEST_TIMEOUT_SECONDS="60").start().until_answering("/readyz")
    with waiting_upgrade(server, owner) as connection:
        connection.close()
        time.sleep(0.5)
    deadline = time.monotonic() + 20
    while not (closed := [line for line in server.log_lines if line["event"] == "websocket.closed"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [line["status"] for line in closed] == [0]
    assert [line["event"] for line in server.log_lines if line["level"] == "error"] == []


@pytest.mark.requirement("RUN-03", "ERR-01")
def test_an_upgrade_that_waits_at_a_shutdown_is_told_to_come_back(boot: Boot, owner: psycopg.Connection) -> None:
    server = boot(REQUEST_TIMEOUT_SECONDS="60").start().until_answering("/readyz")
    with waiting_upgrade(server, owner) as connection:
        server.terminate()
        response = connection.getresponse()
        error = json.loads(response.read())["error"]
    assert (response.status, response.headers["Retry-After"], error["code"]) == (503, "1", "service_unavailable")
    assert error["request_id"] == response.headers["X-Request-ID"] == "the-upgrade"
    assert server.wait() == 0
    assert [line["event"] for line in server.log_lines if line["level"] == "error"] == []


@pytest.mark.requirement("RUN-03")
def test_a_request_that_takes_too_long_is_504(boot: Boot) -> None:
    server = boot(REQUEST_TIMEOUT_SECONDS="1").start().until_answering("/readyz")
    with closing(begin_request(server, str(uuid4()))) as connection:
        response = connection.getresponse()
        assert response.status == 504
        assert b'"code":"gateway_timeout"' in response.read()


def test_the_socket_belongs_to_the_directorys_group(boot: Boot) -> None:
    server = boot()
    os.chown(server.socket_directory, -1, EDGE_GROUP)
    server.socket_directory.chmod(0o2750)
    server.start().until_answering()
    found = server.socket.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (os.getuid(), EDGE_GROUP)
    assert os.getgid() != EDGE_GROUP


def test_a_stale_socket_is_replaced(boot: Boot) -> None:
    server = boot().start().until_answering()
    server.running.send_signal(signal.SIGKILL)
    server.wait()
    assert server.socket.exists()
    server.start().until_answering()


@pytest.mark.requirement("RUN-01", "HLT-03")
@pytest.mark.parametrize("bind", ["unix", "127.0.0.1:18000", "0.0.0.0:18000"])
def test_the_health_check_follows_the_bind(boot: Boot, bind: str) -> None:
    server = boot()
    environment = os.environ | {"SEAWALL_BIND": server.environment["SEAWALL_BIND"] if bind == "unix" else bind}
    server.environment["SEAWALL_BIND"] = environment["SEAWALL_BIND"]

    def check() -> int:
        return subprocess.run(["seawall-healthcheck"], env=environment, check=False, capture_output=True, timeout=10).returncode

    assert check() == 1
    server.start()
    deadline = time.monotonic() + 60
    while check() != 0:
        assert time.monotonic() < deadline, server.stdout
        time.sleep(0.1)
    took = []
    for _ in range(5):
        started = time.monotonic()
        assert check() == 0
        took.append(time.monotonic() - started)
    # The shortest: Docker asks every few seconds, on a busy machine as well.
    assert min(took) < 0.5
    os.kill(server.running.pid, signal.SIGSTOP)
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGSTOP)
    try:
        assert check() == 1
    finally:
        for pid in (*server.worker_pids(), server.running.pid):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.requirement("RUN-02")
def test_the_worker_count_follows_the_environment(boot: Boot) -> None:
    server = boot(WEB_CONCURRENCY="3").start().until_all_started()
    assert len(server.worker_pids()) == 3


def test_answers_do_not_name_the_server(boot: Boot) -> None:
    headers = boot().start().until_answering().get("/healthz").headers
    assert "server" not in headers


def say(server: RunningServer, data: bytes) -> bytes:
    """What is answered until the server hangs up."""
    answer = b""
    with closing(server.connection()) as connection:
        connection.connect()
        connection.sock.sendall(data)
        while received := connection.sock.recv(65536):
            answer += received
    return answer


@pytest.mark.requirement("SEC-07")
def test_a_body_that_is_too_large_is_refused_before_its_end(boot: Boot) -> None:
    """By what it says of itself, or as soon as more has come than may: nobody waits for the rest, nor keeps it."""
    server = boot(MAX_REQUEST_BODY_SIZE_BYTES="1000", REQUEST_TIMEOUT_SECONDS="120").start().until_answering("/readyz")
    head = f"POST /api/v1/documents HTTP/1.1\r\nHost: localhost\r\nX-Principal-Id: {uuid4()}\r\n"
    declared = f"{head}Content-Length: 1001\r\n\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n3e9\r\n{' ' * 1001}\r\n"
    for data in (declared, chunked):
        answer = say(server, data.encode())
        assert answer.startswith(b"HTTP/1.1 413 "), answer
        assert b'"code":"payload_too_large"' in answer


@pytest.mark.requirement("SEC-04", "SEC-05")
def test_a_trailer_is_no_header(boot: Boot) -> None:
    """The edge judges the head; what comes after the body must not say who asks, or whether it was asked before."""
    server = boot(REQUIRE_AUTHENTICATED_PRINCIPAL="true").start().until_answering("/readyz")
    user, path = str(uuid4()), b"POST /api/v1/documents HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head = path + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    sent = b'e\r\n{"title": "t"}\r\n0\r\n'
    principal = b"X-Principal-Id: %b\r\n" % user.encode()
    assert say(server, head + b"\r\n" + sent + principal + b"\r\n").startswith(b"HTTP/1.1 401 ")
    # A second one would make the first one doubtful, and so another's request fail.
    answer = say(server, head + principal + b"\r\n" + sent + b"X-Principal-Id: %b\r\n\r\n" % str(uuid4()).encode())
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert f'"owner_id":"{user}"'.encode() in answer
