"""What of a request reaches the service, seen by a service that writes it down."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

import pytest
import yaml
from edge_answers import assert_error
from edge_wire import Request, ask_1, ask_2
from installation import HTTPS_PORT, REPOSITORY, ask
from recorded_service import PRINCIPAL, SAID, Recorded, recorded_service

pytestmark = pytest.mark.usefixtures("stack")

SIGNED_IN = "Bearer not-for-the-service"
# As long as the edge may keep a connection to the colour before (edge_upstream).
DRAIN_SECONDS = 20
OURS = {
    ":path",
    ":method",
    "host",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-principal-id",
}
EDGE = yaml.safe_load((REPOSITORY / "roles/edge/vars/main.yml").read_text(encoding="utf-8"))
FORGED = dict.fromkeys(EDGE["edge_stripped_headers"], "root") | {
    "X-Principal-Id": "00000000-0000-4000-8000-00000000000b",
    "x-principal-ID": "00000000-0000-4000-8000-00000000000c",
    "X_Principal_Id": "00000000-0000-4000-8000-00000000000d",
    "X-Principal-Roles": "admin",
    "X-Forwarded-For": "203.0.113.1",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=203.0.113.1",
    "X-Real-IP": "203.0.113.1",
    "Via": "1.1 evil",
    "Proxy": "http://evil.example",
    "X-Original-URL": "/internal/verify",
    "X-Rewrite-URL": "/internal/verify",
    "X-Original-URI": "/internal/verify",
    "X-Original-Method": "DELETE",
    "X-HTTP-Method-Override": "DELETE",
    "X-HTTP-Method": "DELETE",
    "X-Method-Override": "DELETE",
    # gunicorn refuses a request that says two things about its scheme.
    "X-Forwarded-Ssl": "off",
    "X-Forwarded-Protocol": "http",
    "X-Forwarded-Scheme": "http",
    "Front-End-Https": "off",
    "Traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
    "Baggage": "user=root",
}
# More of them than the edge takes in one request.
PARTS = 2


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    with recorded_service() as record:
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline and not record.sent:
            ask("/api/v1/until-it-is-in-charge", headers={"Authorization": SIGNED_IN})
            time.sleep(0.2)
        # Each worker may still keep a connection to the colour before, and may not use it for longer than this.
        time.sleep(DRAIN_SECONDS / 2)
        yield record


def reached(record: Recorded, path: str) -> dict[str, list[str]]:
    (found,) = [request for request in record.sent if request[":path"] == [path]]
    return found


@pytest.mark.requirement("SEC-05", "BEY-15", "C3")
@pytest.mark.parametrize("part", range(PARTS))
def test_no_claim_of_a_client_reaches_the_service(recorded: Recorded, part: int) -> None:
    sent = {"Authorization": SIGNED_IN, "X-Request-ID": "the-client-s-own"} | dict(list(FORGED.items())[part::PARTS])
    path = f"/api/v1/forged/{part}"
    assert ask(path, headers=sent).status == 200
    found = reached(recorded, path)
    assert {name for name in found if name not in {"connection", "accept-encoding"}} == OURS
    assert {name: found[name] for name in OURS - {":path", ":method", "host", "x-forwarded-for"}} == {
        "x-request-id": ["the-client-s-own"],
        "x-forwarded-proto": ["https"],
        "x-forwarded-host": ["localhost"],
        "x-forwarded-port": [str(HTTPS_PORT)],
        "x-principal-id": [PRINCIPAL],
    }
    (address,) = found["x-forwarded-for"]
    assert address not in {"", "203.0.113.1"}
    assert "," not in address


@pytest.mark.requirement("EDGE-01")
@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("version", [1, 2])
def test_the_service_neither_steers_the_edge_nor_speaks_for_it(version: int) -> None:
    request = Request("/api/v1/says-much", headers=(("Authorization", SIGNED_IN),))
    reply = (ask_1 if version == 1 else ask_2)(request)
    assert (reply.status, "recorded" in json.loads(reply.body)) == (200, True)
    said = {name.lower() for name in SAID}
    assert {name.lower() for name in [*EDGE["edge_header_values"], "Strict-Transport-Security", "Content-Security-Policy"]} < said
    assert {name: reply.all(name) for name in said if len(reply.all(name)) > 1} == {}
    assert [header for header in reply.headers if "the-service" in header[1]] == []


@pytest.mark.requirement("ERR-01", "SEC-05")
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("verdict", "status"), [(401, 401), (403, 403), (302, 503), (404, 503), (429, 503), (500, 503)])
def test_nobody_gets_in_but_by_the_gateway_s_word(recorded: Recorded, verdict: int, status: int, version: int) -> None:
    """It names somebody in each answer, and only one that lets him in counts."""
    path = f"/api/v1/verdict/{verdict}"
    reply = (ask_1 if version == 1 else ask_2)(Request(path, headers=(("Authorization", SIGNED_IN),)))
    assert_error(reply, status)
    assert [request for request in recorded.sent if request[":path"] == [path]] == []


@pytest.mark.requirement("SEC-05", "SEC-09")
@pytest.mark.parametrize("path", ["/api/v1/private", "/openapi.json", "/api/v1/documents/d/live"])
def test_the_service_is_told_who_it_is_and_not_the_token(recorded: Recorded, path: str) -> None:
    asked = len(recorded.asked)
    assert ask(path, headers={"Authorization": SIGNED_IN}).status == 200
    found = reached(recorded, path)
    assert found["x-principal-id"] == [PRINCIPAL]
    assert "authorization" not in found
    (question,) = recorded.asked[asked:]
    assert question["authorization"] == [SIGNED_IN]
    assert (question["x-original-uri"], question["x-original-method"]) == ([path], ["GET"])
    assert "x-principal-id" not in question


@pytest.mark.requirement("BEY-15")
@pytest.mark.parametrize(("version", "method", "upgraded"), [(1, "GET", True), (1, "POST", False), (2, "GET", False)])
def test_only_a_get_of_http_1_1_is_upgraded(recorded: Recorded, version: int, method: str, upgraded: bool) -> None:
    path = f"/api/v1/documents/{uuid.uuid4()}/live"
    request = Request(path, method, headers=(("Authorization", SIGNED_IN), ("Upgrade", "WebSocket")))
    assert (ask_1 if version == 1 else ask_2)(request).status == 200
    found = reached(recorded, path)
    assert (found.get("upgrade"), "upgrade" in found.get("connection", [])) == (["websocket"] if upgraded else None, upgraded)


def test_nobody_is_asked_about_what_is_public(recorded: Recorded) -> None:
    asked = len(recorded.asked)
    assert ask("/healthz", headers={"Authorization": SIGNED_IN, "X-Principal-Id": PRINCIPAL}).status == 200
    assert "x-principal-id" not in reached(recorded, "/healthz")
    assert recorded.asked[asked:] == []
