"""The limit counts what arrives, whatever Content-Length says or does not say."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from seawall_service.main import create_app
from seawall_service.startup_gate import load_settings
from tests.conftest import client_of

LIMIT = 1000


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("MAX_REQUEST_BODY_SIZE_BYTES", str(LIMIT))
    with client_of(create_app(load_settings("api"))) as client:
        yield client


def body_of(size: int) -> bytes:
    """Valid JSON of exactly this size: a short title, and spaces behind it."""
    return b'{"title": "t"}'.ljust(size)


def chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


@pytest.mark.requirement("SEC-07")
@pytest.mark.parametrize(("size", "status"), [(LIMIT, 201), (LIMIT + 1, 413)])
@pytest.mark.parametrize("transfer", ["content-length", "chunked"])
def test_limit(limited: TestClient, headers: dict[str, str], size: int, status: int, transfer: str) -> None:
    body = body_of(size)
    response = limited.post(
        "/api/v1/documents",
        content=chunks(body) if transfer == "chunked" else body,
        headers=headers | {"Content-Type": "application/json"},
    )
    assert response.status_code == status
    assert response.headers["X-Request-ID"]
    if status == 413:
        assert response.json()["error"]["code"] == "payload_too_large"
        assert response.headers["Connection"] == "close"
