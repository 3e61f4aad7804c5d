"""X-Principal-Id is believed from the edge, in its canonical form, and once."""

import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from seawall_service.main import create_app
from seawall_service.security.peer import TrustedPeers
from seawall_service.startup_gate import load_settings
from tests.conftest import Boot, client_of

USER = str(uuid4())


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("REQUIRE_AUTHENTICATED_PRINCIPAL", "true")
    with client_of(create_app(load_settings("api"))) as client:
        yield client


@pytest.mark.requirement("SEC-04")
def test_absent_and_not_required_is_the_system(api: TestClient) -> None:
    document = api.post("/api/v1/documents", json={"title": "by the system"}).json()
    assert document["owner_id"] == "00000000-0000-4000-8000-000000000001"


@pytest.mark.requirement("SEC-04")
def test_absent_and_required_is_refused(strict: TestClient) -> None:
    response = strict.get("/api/v1/documents")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "unauthorized"


@pytest.mark.requirement("SEC-04")
@pytest.mark.parametrize(
    "value", ["", "system", USER[:-1], "{" + USER + "}", f"urn:uuid:{USER}", USER.replace("-", ""), f"{USER},{USER}"]
)
def test_malformed_is_refused_even_when_not_required(api: TestClient, strict: TestClient, value: str) -> None:
    for client in (api, strict):
        assert client.get("/api/v1/documents", headers={"X-Principal-Id": value}).status_code == 401


@pytest.mark.requirement("SEC-04")
def test_two_headers_are_refused(strict: TestClient) -> None:
    headers = [("X-Principal-Id", USER), ("X-Principal-Id", str(uuid4()))]
    assert strict.get("/api/v1/documents", headers=headers).status_code == 401


@pytest.mark.requirement("SEC-04", "SEC-05")
def test_header_from_a_stranger_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.0/24")
    with client_of(create_app(load_settings("api"))) as client:
        assert client.get("/api/v1/documents", headers={"X-Principal-Id": USER}).status_code == 401
        assert client.get("/api/v1/documents").status_code == 200


@pytest.mark.requirement("SEC-04")
def test_well_formed_is_taken(strict: TestClient) -> None:
    headers = {"X-Principal-Id": USER}
    document = strict.post("/api/v1/documents", json={"title": "mine"}, headers=headers).json()
    assert document["owner_id"] == USER


@pytest.mark.requirement("RL-04", "C3")
@pytest.mark.parametrize(
    ("peer", "forwarded", "judged"),
    [
        (None, [], (True, None)),
        (None, [""], (True, None)),
        (None, ["198.51.100.7"], (True, "198.51.100.7")),
        ("127.0.0.1", ["198.51.100.7"], (True, "198.51.100.7")),
        ("127.0.0.1", ["6.6.6.6, 198.51.100.7"], (True, "198.51.100.7")),
        ("127.0.0.1", ["198.51.100.7, 127.0.0.1"], (True, "198.51.100.7")),
        ("203.0.113.9", ["198.51.100.7"], (False, "203.0.113.9")),
        # Several lines are one list: the client's own come first.
        ("127.0.0.1", ["6.6.6.6", "198.51.100.7"], (True, "198.51.100.7")),
        ("127.0.0.1", ["6.6.6.6, 7.7.7.7", "198.51.100.7, 127.0.0.1"], (True, "198.51.100.7")),
        ("127.0.0.1", ["198.51.100.7", "127.0.0.1", ""], (True, "198.51.100.7")),
        # Of a socket for both families.
        ("::ffff:127.0.0.1", ["198.51.100.7"], (True, "198.51.100.7")),
        ("::ffff:203.0.113.9", ["198.51.100.7"], (False, "203.0.113.9")),
        ("::ffff:10.1.2.3", ["198.51.100.7, ::ffff:127.0.0.1"], (True, "198.51.100.7")),
        ("10.1.2.3", ["::ffff:198.51.100.7"], (True, "198.51.100.7")),
        ("::ffff:11.1.2.3", ["198.51.100.7"], (False, "11.1.2.3")),
        ("2001:db8:1::9", ["2001:DB8:7::1"], (True, "2001:db8:7::1")),
        ("2001:db8:1::9", ["2001:db8:7::1, 2001:db8:1:0::2"], (True, "2001:db8:7::1")),
        ("2001:db8:2::9", ["2001:db8:7::1"], (False, "2001:db8:2::9")),
        # Whatever a proxy vouches for that is no address ends the way, too.
        ("127.0.0.1", ["198.51.100.7, unknown"], (True, "unknown")),
    ],
)
def test_forwarded_for_is_believed_from_the_edge_only(
    peer: str | None, forwarded: list[str], judged: tuple[bool, str | None]
) -> None:
    peers = TrustedPeers(["127.0.0.1", "::ffff:10.0.0.0/104", "2001:db8:1::/48"], unix_socket=True)
    lines = Headers(raw=[(b"x-forwarded-for", line.encode()) for line in forwarded])
    assert peers.judge({"client": peer and (peer, 1)}, lines) == judged


@pytest.mark.requirement("SEC-04", "C3")
def test_behind_a_socket_of_both_families_the_edge_is_known(boot: Boot) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as free:
        port = free.getsockname()[1]
    strict = {"SEAWALL_BIND": f"[::]:{port}", "REQUIRE_AUTHENTICATED_PRINCIPAL": "true"}
    server = boot(**strict)
    server.address = f"127.0.0.1:{port}"
    server.start().until_answering("/readyz")
    assert server.get("/api/v1/documents", {"X-Principal-Id": USER}).status == 200
