"""HTTP/3, which is off until it is wanted: the same answers over UDP."""

from __future__ import annotations

import json
import re
import shlex
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Stack
from edge_answers import CLOSED, Reply, assert_error, assert_headers
from edge_configuration import dump, found_by_gixy
from edge_http3 import ask_3
from edge_table import AS_OVER_1, PLACES, Kind, Row, name_of, rows, signed
from edge_wire import Request, Way, ask_1, ask_2
from installation import HTTPS_PORT, ROOT, ask, containers, docker
from judges import judge
from test_edge_log import lines_of
from test_edge_memory import workers
from test_edge_settings import DEFAULTS, deploy

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.requirement("BEY-13")]

# Nobody is refused for being fast, and the log tells who would have been: whoever is faster than the slowest machine.
SETTINGS = {
    "edge_http3": True,
    "edge_limit_rules": DEFAULTS["edge_limit_rules"] | {"dry_run": True},
    "edge_limits": DEFAULTS["edge_limits"] | {"api_per_second": 1, "api_burst": 10},
}
ADVERTISED = f'h3=":{HTTPS_PORT}"; ma=3600'
# Here nginx resets the stream before its answer has left, always or as it happens.
RESET = {"changed since", "body too large", "too many headers", "header too large"}


def curl(path: str, protocol: str = "--http3-only") -> str:
    """The command of a client of another make, that shows the status."""
    options = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", protocol, "--max-time", "20"]
    return shlex.join([*options, "--cacert", "/ca.pem", f"https://localhost:{HTTPS_PORT}{path}"])


def run(commands: list[str], directory: Path) -> list[tuple[int, str]]:
    """Run commands one after the other beside the edge: the exit code and what was said, of each."""
    mark = uuid.uuid4().hex
    script = directory / "commands.sh"
    script.write_text("".join(f"{command}\ncode=$?; echo; echo {mark} $code\n" for command in commands), encoding="utf-8")
    said = judge("sh", "/commands.sh", mounts=(f"{script}:/commands.sh", f"{ROOT}/tls/ca.pem:/ca.pem"), seconds=280)
    parts = re.split(rf"\n{mark} (\d+)\n", said)
    return [(int(code), text) for text, code in zip(parts[0::2], parts[1::2], strict=False)]


def test_it_is_off_until_it_is_wanted(tmp_path: Path) -> None:
    for reply in (ask_1(Request("/"), Way.TLS), ask_2(Request("/none.txt"), Way.TLS)):
        assert reply.all("alt-svc") == []
    ports = json.loads(docker("inspect", "--format", "{{json .HostConfig.PortBindings}}", containers()["edge"]["Id"]))
    assert set(ports) == {"8080/tcp", "8443/tcp"}
    ((code, said),) = run([curl("/")], tmp_path)
    # What is over TCP is there for the same client.
    ((over_2, _),) = run([curl("/", "--http2")], tmp_path)
    assert (code != 0, said, over_2) == (True, "000", 0)


@pytest.fixture(scope="module")
def switched_on(stack: Stack) -> Iterator[Stack]:
    deploy(SETTINGS)
    try:
        yield stack
    finally:
        deploy({})


def over_3() -> Iterator[Row]:
    """The rows of the table that can be said over HTTP/3, whose answers are those of HTTP/2."""
    for place, condition, version, status in rows(PLACES.values()):
        if version == 2 and place.way is not Way.PLAIN:
            over = status if condition.over_2 in {AS_OVER_1, CLOSED} else condition.over_2
            yield place, condition, 3, over or CLOSED


ROWS = {name_of(row): row for row in over_3()}


@pytest.fixture(scope="module")
def answers(switched_on: Stack) -> dict[str, tuple[str, Reply]]:
    """What came for each row, and the request id that it had."""
    found = re.search(r'"/assets/([^"]+)"', ask_1(Request("/")).body.decode())
    assert found
    replies: dict[str, tuple[str, Reply]] = {}
    for name, (place, condition, _, _) in ROWS.items():
        request = condition.build(replace(place, path=place.path.replace("ASSET", found[1])))
        assert isinstance(request, Request)
        mine = uuid.uuid4().hex
        request = replace(request, headers=(("X-Request-ID", mine), *request.headers))
        if condition.signed and place.kind is Kind.PRIVATE:
            request = signed(request, switched_on.session())
        replies[name] = (mine, ask_3(request))
    return replies


def may_be_closed(name: str) -> bool:
    _, condition, _, status = ROWS[name]
    return status == CLOSED or condition.name in RESET


@pytest.mark.requirement("EDGE-01", "EDGE-03", "ERR-01")
@pytest.mark.parametrize("name", ROWS)
def test_an_error_is_whole(answers: dict[str, tuple[str, Reply]], name: str) -> None:
    place, _, _, status = ROWS[name]
    mine, reply = answers[name]
    if status == CLOSED or (may_be_closed(name) and reply.status == CLOSED):
        assert reply.status == CLOSED
        return
    assert_error(reply, status)
    assert reply.one("alt-svc") == ADVERTISED
    if "%" not in place.path:
        assert reply.one("x-request-id") == mine or status == 400


def test_all_places_are_asked() -> None:
    asked = {place.path for place, _, _, _ in ROWS.values()}
    assert asked == {place.path for place in PLACES.values() if place.way is not Way.PLAIN}
    assert len(ROWS) > 150


@pytest.mark.requirement("EDGE-03", "LOG-08")
def test_a_request_reaches_the_service_and_is_logged_as_what_it_was(switched_on: Stack) -> None:
    mine = uuid.uuid4().hex
    forged = (("X-Principal-Id", "somebody-else"), ("X-Forwarded-For", "192.0.2.1"))
    sent = (*switched_on.session().items(), *forged, ("X-Request-ID", mine), ("Content-Type", "application/json"))
    write = Request("/api/v1/documents", "POST", headers=sent, body=b'{"title": "Over UDP"}')
    reply = ask_3(write)
    assert reply.status == 201, reply
    assert_headers(reply)
    (line,) = lines_of(mine)
    me: Any = ask("/api/v1/users/me", headers=switched_on.session()).body["id"]
    told = {name: line[name] for name in ("protocol", "method", "status", "principal", "tls", "path")}
    assert told == {
        "protocol": "HTTP/3.0",
        "method": "POST",
        "status": 201,
        "principal": me,
        "tls": "TLSv1.3",
        "path": "/api/v1/documents",
    }
    assert line["client"] != "192.0.2.1"


@pytest.mark.usefixtures("switched_on")
@pytest.mark.parametrize("length", [7000, 15000, 30000])
def test_headers_may_be_as_large_as_over_tcp(length: int) -> None:
    """nginx waits for ever for what does not fit into its buffer of a stream."""
    pieces = tuple((f"X-{number}", "~" * 5000) for number in range(length // 5000)) or (("X-0", "~" * length),)
    assert ask_3(Request("/", headers=pieces)).status == 200


@pytest.mark.usefixtures("switched_on")
def test_a_handshake_is_as_good_as_another(tmp_path: Path) -> None:
    """Each with a post-quantum key, whose first message takes more than a packet; with quic_retry, one in ten was lost."""
    came = run([curl("/none.txt")] * 60, tmp_path)
    # Two in a thousand of its requests this client gives up before they are whole: the edge never sees their headers.
    assert came.count((0, "404")) >= 57, came


@pytest.mark.usefixtures("switched_on")
@pytest.mark.requirement("RL-10")
def test_its_requests_count() -> None:
    mine = uuid.uuid4().hex
    assert [ask_3(Request("/healthz", headers=(("X-Request-ID", mine),))).status for _ in range(60)] == [200] * 60
    lines = lines_of(mine)
    assert {line["protocol"] for line in lines} == {"HTTP/3.0"}
    assert {line["limit"] for line in lines} == {"PASSED", "REJECTED_DRY_RUN"}


@pytest.mark.usefixtures("switched_on")
def test_it_is_told_of_where_tls_ends_here_and_nowhere_else() -> None:
    for reply in (ask_1(Request("/"), Way.TLS), ask_2(Request("/api/v1/documents"), Way.TLS)):
        assert reply.one("alt-svc") == ADVERTISED
    assert ask_1(Request("/"), Way.PLAIN).all("alt-svc") == []


@pytest.mark.usefixtures("switched_on")
def test_it_is_there_after_a_reload() -> None:
    """As long as old workers finish what they have begun, they take packets that are the new ones'."""
    before = workers().keys()
    docker("exec", containers()["edge"]["Id"], "nginx", "-s", "reload")
    end = time.monotonic() + 60
    while before & workers().keys():
        assert time.monotonic() < end
        time.sleep(0.5)
    assert [ask_3(Request("/")).status for _ in range(5)] == [200] * 5


@pytest.mark.usefixtures("switched_on")
@pytest.mark.parametrize("name", ["other.example", None], ids=["unknown", "none"])
def test_a_handshake_for_no_name_of_ours_is_refused(tmp_path: Path, name: str | None) -> None:
    address = name or "127.0.0.1"
    command = ["curl", "--http3-only", "--insecure", "--verbose", "--resolve", f"{address}:{HTTPS_PORT}:127.0.0.1"]
    ((code, said),) = run([f"{shlex.join([*command, f'https://{address}:{HTTPS_PORT}/'])} 2>&1"], tmp_path)
    assert code != 0
    assert "subject:" not in said


@pytest.mark.usefixtures("switched_on")
@pytest.mark.requirement("BEY-16")
def test_the_judges_find_nothing() -> None:
    assert "quic" in dump()
    assert found_by_gixy(dump()) == []
    options = "--headers --quiet --color 0 --warnings batch --ip 127.0.0.1 --nodns none --add-ca /ca.pem"
    options += " --jsonfile /tmp/found.json"
    program = f"testssl {options} https://localhost:{HTTPS_PORT} >/tmp/said 2>&1; cat /tmp/found.json"
    said = json.loads(judge("sh", "-c", program, mounts=(f"{ROOT}/tls/ca.pem:/ca.pem",), seconds=200))
    assert "HSTS_time" in {entry["id"] for entry in said}
    assert [entry for entry in said if entry["severity"] in {"LOW", "MEDIUM", "HIGH", "CRITICAL"}] == []


@pytest.mark.usefixtures("switched_on")
def test_the_port_is_there_for_tcp_and_udp() -> None:
    ports = json.loads(docker("inspect", "--format", "{{json .HostConfig.PortBindings}}", containers()["edge"]["Id"]))
    assert set(ports) == {"8080/tcp", "8443/tcp", "8443/udp"}
