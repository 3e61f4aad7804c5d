"""The client's request id when it is well-formed, else a new one; on every answer."""

import re
from uuid import UUID

import pytest
from starlette.testclient import TestClient


@pytest.mark.requirement("LOG-01")
@pytest.mark.parametrize("given", ["a", "x" * 128, "trace-1.2_3", "0198c1a0-0000-7000-8000-000000000000"])
def test_well_formed_ids_are_kept(api: TestClient, given: str) -> None:
    assert api.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.requirement("LOG-01")
@pytest.mark.parametrize("given", ["", "x" * 129, "a b", 'a"b', "a;b", "ä", "../x", "a\tb"])
def test_others_are_replaced_by_a_uuid4(api: TestClient, given: str) -> None:
    answered = api.get("/healthz", headers={b"X-Request-ID": given.encode()}).headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f-]{36}", answered)
    assert UUID(answered).version == 4


@pytest.mark.requirement("LOG-01")
def test_missing_ids_are_made_once_per_request(api: TestClient) -> None:
    first, second = (api.get("/nowhere") for _ in range(2))
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]
    assert first.json()["error"]["request_id"] == first.headers["X-Request-ID"]
