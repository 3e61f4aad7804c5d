"""The live tail through the edge: a page's way to authenticate, what it sees, and who is refused."""

from __future__ import annotations

import itertools
import json
import re
import ssl
from typing import Any
from uuid import uuid4

import pytest
from edge_answers import HEADERS
from installation import HTTPS_PORT, ROOT, URL, ask, containers, docker
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

pytestmark = pytest.mark.usefixtures("stack")


def token_of(session: dict[str, str]) -> str:
    return session["Authorization"].removeprefix("Bearer ")


def live(document: str, *protocols: str, origin: str = URL, **headers: str) -> ClientConnection:
    """A socket as a page opens it: its token can only be one of the protocols that it offers."""
    return connect(
        f"wss://localhost:{HTTPS_PORT}/api/v1/documents/{document}/live",
        ssl=ssl.create_default_context(cafile=str(ROOT / "tls/ca.pem")),
        subprotocols=[Subprotocol(name) for name in protocols],
        origin=Origin(origin),
        additional_headers=headers,
        open_timeout=20,
        proxy=None,
    )


def message(socket: ClientConnection) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(socket.recv(timeout=20))
    return parsed


def refusal(document: str, *protocols: str, origin: str = URL, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and parsed body of the answer to an upgrade that was refused."""
    with pytest.raises(InvalidStatus) as refused, live(document, *protocols, origin=origin, **headers):
        pass
    answer = refused.value.response
    return answer.status_code, json.loads(answer.body or b"{}")


def test_an_entry_is_seen_live(document: str, session: dict[str, str]) -> None:
    with live(document, "seawall.v1", f"bearer.{token_of(session)}") as socket:
        assert socket.subprotocol == "seawall.v1"
        assert socket.response
        for name, pattern in HEADERS.items():
            (value,) = socket.response.headers.get_all(name)
            assert re.fullmatch(pattern, value), name
        assert message(socket)["type"] == "ready"
        request_id = str(uuid4())
        entry = {"content": "seen by whoever looks"}
        sent = ask(f"/api/v1/documents/{document}/entries", "POST", entry, session | {"X-Request-ID": request_id})
        assert sent.status == 201
        seen = message(socket)
    assert (seen["type"], seen["entry"]["content"], seen["request_id"]) == ("entry", entry["content"], request_id)


def test_a_program_may_send_its_token_as_ever(document: str, session: dict[str, str]) -> None:
    with live(document, **session) as socket:
        assert message(socket)["type"] == "ready"


def test_strangers_are_refused_with_the_envelope(document: str, session: dict[str, str]) -> None:
    for protocols in (["seawall.v1"], ["seawall.v1", "bearer.no-token"]):
        status, body = refusal(document, *protocols)
        assert (status, body["error"]["code"]) == (401, "unauthorized")
    assert refusal(str(uuid4()), "seawall.v1", f"bearer.{token_of(session)}")[0] in {403, 404}


def test_a_page_of_another_origin_is_refused(document: str, session: dict[str, str]) -> None:
    token = f"bearer.{token_of(session)}"
    assert refusal(document, "seawall.v1", token, origin="https://evil.example")[0] == 403


def test_who_it_is_cannot_be_claimed(document: str) -> None:
    status, _ = refusal(document, "seawall.v1", **{"X-Principal-Id": "00000000-0000-4000-8000-000000000001"})
    assert status == 401


def test_only_the_live_tail_is_upgraded(document: str, session: dict[str, str]) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "A" * 22 + "==",
    }
    assert ask(f"/api/v1/documents/{document}", headers=session | upgrade).status == 200
    assert ask(f"/api/v1/documents/{document}/live", headers=session).status == 404


def test_a_token_in_a_protocol_opens_nothing_else(document: str, session: dict[str, str]) -> None:
    """Only what asks for a socket may show its token so: no log and no cache takes that header for a secret."""
    offered = {"Sec-WebSocket-Protocol": f"seawall.v1, bearer.{token_of(session)}"}
    for upgrade, method in itertools.product(("", "h2c", "websocket"), ("GET", "POST")):
        asked = offered | ({"Connection": "Upgrade", "Upgrade": upgrade} if upgrade else {})
        answer = ask(f"/api/v1/documents/{document}{'/entries' if method == 'POST' else ''}", method, headers=asked)
        assert (answer.status, answer.body["error"]["code"]) == (401, "unauthorized")


def test_the_token_is_in_no_log(document: str, session: dict[str, str]) -> None:
    token = token_of(session)
    with live(document, "seawall.v1", f"bearer.{token}") as socket:
        message(socket)
    logs = {name: docker("logs", entry["Id"]) for name, entry in containers().items()}
    assert f"/api/v1/documents/{document}/live" in "".join(logs.values()), "the socket was not logged at all"
    assert [name for name, text in logs.items() if token.rpartition(".")[2] in text] == []
