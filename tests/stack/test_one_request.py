"""One command finds a request that went through the whole stack."""

from __future__ import annotations

import uuid

import pytest
from installation import ask_when_allowed, seawall

pytestmark = pytest.mark.usefixtures("stack")


@pytest.mark.requirement("OPS-02")
@pytest.mark.parametrize("given", ["chosen", "made"])
def test_a_request_is_found_at_the_edge_and_in_the_service(given: str) -> None:
    headers = {"X-Request-ID": f"trace-{uuid.uuid4()}"} if given == "chosen" else {}
    credentials = {"username": "nobody", "password": "wrong-and-long-enough"}
    answer = ask_when_allowed("/api/auth/login", "POST", credentials, headers)
    assert answer.status == 401
    run = seawall("trace", "-e", f"id={answer.headers['x-request-id']}")
    assert run.code == 0, run.output
    assert run.recap["changed"] == 0
    assert [word for word in ("edge.request", "login.start", "login.denied") if word not in run.output] == []


def test_without_an_id_it_says_what_to_type() -> None:
    run = seawall("trace")
    assert run.code != 0
    assert "./seawall trace -e id=THE_ID" in run.output
