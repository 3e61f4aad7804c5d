"""The edge's log: one line of JSON a request, which tells what an operator asks and no secret; and what only the host sees."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from conftest import Stack
from edge_wire import Request, Way, ask_1, ask_2, limited, say
from installation import PROJECT, ROOT, ask, containers, docker
from test_edge_table import unreachable

pytestmark = pytest.mark.usefixtures("stack")

FIELDS = {
    *("timestamp", "level", "event", "request_id", "client", "peer", "method", "host", "path", "protocol", "status"),
    *(
        "bytes_in",
        "connections",
        "bytes_out",
        "seconds",
        "principal",
        "upstream",
        "upstream_status",
        "upstream_connect_seconds",
        "upstream_seconds",
        "limit",
        "tls",
        "cipher",
    ),
}
NUMBERS = {"status", "bytes_in", "bytes_out", "seconds"}
UNTOLD = "a-word-that-nobody-should-read"


def written(kind: str = "stdout") -> str:
    done = subprocess.run(["docker", "logs", containers()["edge"]["Id"]], capture_output=True, text=True, check=True)
    return done.stdout if kind == "stdout" else done.stderr


def lines_of(request_id: str) -> list[dict[str, Any]]:
    """Written when the answer is on its way, so one may have to wait for it."""
    end = time.monotonic() + 10
    while True:
        found = [line for line in written().splitlines() if request_id in line]
        if found or time.monotonic() > end:
            return [json.loads(line) for line in found]
        time.sleep(0.1)


def line_of(request: Request, version: int, way: Way = Way.TLS) -> dict[str, Any]:
    """The one line of one request."""
    mine = uuid.uuid4().hex
    with_id = replace(request, headers=(("X-Request-ID", mine), *request.headers))
    reply = (ask_1 if version == 1 else ask_2)(with_id, way)
    found = lines_of(mine)
    assert len(found) == 1, found
    assert (found[0]["request_id"], found[0]["status"]) == (mine, reply.status)
    return found[0]


@pytest.mark.requirement("EDGE-03", "LOG-08")
@pytest.mark.parametrize("version", [1, 2])
def test_a_request_to_the_service_is_one_line_that_tells_all(stack: Stack, version: int) -> None:
    me = ask("/api/v1/users/me", headers=stack.session()).body["id"]
    line = line_of(Request("/api/v1/users/me", headers=tuple(stack.session().items())), version)
    assert set(line) == FIELDS
    assert all(isinstance(line[name], int | float) == (name in NUMBERS) for name in FIELDS)
    told = {name: line[name] for name in ("level", "event", "method", "host", "path", "protocol", "status", "principal", "limit")}
    assert told == {
        "level": "info",
        "event": "edge.request",
        "method": "GET",
        "host": "localhost",
        "path": "/api/v1/users/me",
        "protocol": "HTTP/1.1" if version == 1 else "HTTP/2.0",
        "status": 200,
        "principal": me,
        "limit": "PASSED",
    }
    assert (line["tls"], line["cipher"]) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert (line["upstream"].endswith("/api/http.sock"), line["upstream_status"]) == (True, "200")
    assert 0 <= float(line["upstream_seconds"]) <= line["seconds"] + 0.001
    assert line["bytes_out"] > line["bytes_in"] > 0
    assert line["client"] == line["peer"]


@pytest.mark.requirement("EDGE-03")
@pytest.mark.parametrize(
    ("request_", "way", "status"),
    [
        (Request("/"), Way.TLS, 200),
        (Request("/api/v1/users/me"), Way.TLS, 401),
        (Request("/api/v1/users/me", method="FOO"), Way.TLS, 405),
        (Request("/metrics"), Way.TLS, 404),
        (Request("/", host="other.example"), Way.TLS, 421),
        (Request("/?" + "a" * 9000), Way.TLS, 414),
        (Request("/"), Way.PLAIN, 308),
    ],
    ids=lambda value: value.target[:20] if isinstance(value, Request) else str(getattr(value, "value", value)),
)
def test_what_the_edge_answers_itself_is_one_line_too(request_: Request, way: Way, status: int) -> None:
    if status == 414:
        # Nothing of its headers was read, so it cannot be found by an id of ours.
        reply = ask_1(request_, way)
        line = lines_of(reply.one("x-request-id"))[0]
    else:
        line = line_of(request_, 1, way)
    assert set(line) == FIELDS
    assert (line["status"], line["upstream"], line["principal"]) == (status, "", "") or status == 401
    assert line["tls"] == ("TLSv1.3" if way is Way.TLS else "")


def test_what_ends_without_an_answer_is_a_line_of_json_too() -> None:
    mine = uuid.uuid4().hex
    ask_2(Request("/", headers=(("X-Request-ID", mine), ("X-Large", "a" * 20000))))
    assert [line["status"] for line in lines_of(mine)] == [0]
    assert all(json.loads(line) for line in written().splitlines())


@pytest.mark.requirement("RL-10")
def test_a_refusal_says_that_it_was_a_limit() -> None:
    refused = limited(Request("/healthz"), 1)
    line = lines_of(refused.one("x-request-id"))[0]
    assert (line["status"], line["limit"], line["upstream"]) == (429, "REJECTED", "")


@pytest.mark.requirement("SEC-09")
def test_no_secret_of_a_query_or_a_header_is_in_a_log(stack: Stack) -> None:
    marker = uuid.uuid4().hex
    paths = (f"/{marker}", f"/api/v1/{marker}", f"/api/auth/{marker}", f"/metrics/{marker}", f"/assets/{marker}")
    for path in paths:
        for way in (Way.TLS, Way.PLAIN):
            ask_1(Request(f"{path}?token={UNTOLD}&password={UNTOLD}", headers=(("Cookie", f"a={UNTOLD}"),)), way)
    ask_1(Request(f"/api/v1/{marker}?token={UNTOLD}", headers=tuple(stack.session().items())), Way.TLS)
    say(f"GET /{marker}%?token={UNTOLD} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), Way.TLS)
    held = Request(f"/api/v1/{marker}?token={UNTOLD}", "POST", headers=tuple(stack.session().items()), body=b"x" * 200000)
    assert ask_1(held).status in {404, 405}
    assert ask_1(replace(held, body=b"", declared=1 << 30)).status == 413
    with unreachable("api"):
        mine = uuid.uuid4().hex
        lost = Request(f"/healthz?token={UNTOLD}", headers=(("X-Request-ID", mine),))
        assert ask_1(lost, Way.TLS).status == 502
    (line,) = lines_of(mine)
    # What the error log would have said: nobody there to connect to.
    assert (line["upstream_status"], line["upstream_connect_seconds"]) == ("502", "-")
    assert UNTOLD not in written("stderr")
    found = written()
    assert found.count(marker) >= 2 * len(paths) + 1
    assert UNTOLD not in found
    assert stack.session()["Authorization"].rpartition(".")[2] not in found


@pytest.mark.requirement("MET-02")
@pytest.mark.parametrize("path", ["/stub_status", "/config", "/upstream/api", "/upstream/auth", "/nginx_status", "/status"])
def test_what_is_for_the_host_is_a_page_of_the_console_outside(path: str) -> None:
    page = ask_1(Request("/"), Way.TLS).body
    assert ask_1(Request(path), Way.TLS).body == page
    assert ask_2(Request(path), Way.TLS).body == page
    assert ask_1(Request(path), Way.PLAIN).status == 308


@pytest.mark.requirement("MET-02")
def test_the_host_sees_the_status_through_a_socket_that_nobody_else_can_enter() -> None:
    directory = ROOT / "edge-status"
    assert directory.stat().st_mode & 0o007 == 0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(directory / "status.sock"))
        connection.sendall(b"GET /stub_status HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    assert b"Active connections:" in answer
    # Neither does a published port lead there.
    ports = json.loads(docker("inspect", "--format", "{{json .HostConfig.PortBindings}}", f"{PROJECT}-edge-1"))
    assert set(ports) == {"8080/tcp", "8443/tcp"}
