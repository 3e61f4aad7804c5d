"""Every error has the envelope, the request id and a stable code."""

import tracemalloc
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from typing import Annotated, Any
from uuid import uuid4

import pytest
import structlog
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, ValidationError
from starlette.testclient import TestClient

from seawall_service.auth.schemas import LoginRequest
from seawall_service.deps import DbSession
from seawall_service.errors import ErrorId
from seawall_service.main import create_app
from seawall_service.startup_gate import load_settings
from tests.conftest import client_of

# Clients rely on these: a code may be added here, never renamed or removed.
PUBLISHED_CODES = {
    "bad_request", "unauthorized", "forbidden", "ownership_required", "not_found", "method_not_allowed", "conflict",
    "idempotency_key_reused", "payload_too_large", "validation_error", "rate_limited", "ws_limit", "internal_error",
    "service_unavailable", "gateway_timeout",
}  # fmt: skip


ORIGIN = {"Origin": "https://example.org"}


@pytest.fixture(scope="module")
def broken() -> Iterator[TestClient]:
    """The real application, with routes that fail in ways nobody foresaw and one that likes nothing and says so."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CORS_ORIGINS", ORIGIN["Origin"])
        app = create_app(load_settings("api"))

    @app.get("/api/v1/broken")
    async def fail() -> None:
        raise RuntimeError("the secret reason")

    @app.get("/api/v1/torn")
    async def tear() -> StreamingResponse:
        async def halves() -> AsyncIterator[bytes]:
            yield b"one half"
            raise RuntimeError("the secret reason")

        return StreamingResponse(halves())

    @app.post("/api/v1/users/{name}")
    async def add(name: str, connection: DbSession) -> None:
        await connection.execute(
            "INSERT INTO proj_users (id, username, password_hash) VALUES (gen_random_uuid(), nullif(%s, 'nobody'), '')", (name,)
        )

    def dislike(value: str) -> str:
        raise ValueError(value)

    @app.post("/api/v1/picky")
    async def picky(body: dict[str, list[Annotated[str, AfterValidator(dislike)]]]) -> None:
        assert not body

    with client_of(app) as client:
        yield client


@pytest.mark.requirement("ERR-02")
def test_codes_are_never_removed() -> None:
    assert {code.value for code in ErrorId} >= PUBLISHED_CODES


@pytest.mark.requirement("ERR-03")
def test_not_found_equals_the_published_body(api: TestClient) -> None:
    response = api.get("/api/v1/does-not-exist", headers={"X-Request-ID": "known"})
    assert response.status_code == 404
    assert response.json() == {"error": {"code": "not_found", "message": "Not Found", "request_id": "known", "details": None}}


@pytest.mark.requirement("ERR-01", "ERR-06", "SEC-10")
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "not_found"),
        ("GET", f"/api/v1/documents/{uuid4()}", None, 404, "not_found"),
        ("DELETE", "/api/v1/documents", None, 405, "method_not_allowed"),
        ("POST", "/api/v1/documents", {"title": ""}, 422, "validation_error"),
        ("POST", "/api/v1/documents", {"title": 7}, 422, "validation_error"),
        ("POST", "/api/v1/documents", {"title": "a\x00b"}, 422, "validation_error"),
        ("POST", "/api/v1/documents", {"title": "t", "unknown": 1}, 422, "validation_error"),
        ("POST", "/api/v1/documents", {"title": "x" * 1_100_000}, 413, "payload_too_large"),
        ("GET", "/api/v1/documents?cursor=nonsense", None, 422, "validation_error"),
        ("GET", "/api/v1/documents?cursor=%F0%9F%98%80", None, 422, "validation_error"),
        ("GET", "/api/v1/documents/not-a-uuid", None, 422, "validation_error"),
    ],
)
def test_envelope(api: TestClient, headers: dict[str, str], method: str, path: str, body: object, status: int, code: str) -> None:
    response = api.request(method, path, json=body, headers=headers)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"code", "message", "request_id", "details"}
    assert error["code"] == code
    assert error["request_id"] == response.headers["X-Request-ID"] != ""
    assert len(response.headers.get_list("X-Request-ID")) == 1


@pytest.mark.parametrize("content", [b'{"title": "\\ud800"}', b'{"\\udfff": "x"}', b"{", b"[]", b""])
def test_bodies_that_are_no_text(api: TestClient, headers: dict[str, str], content: bytes) -> None:
    response = api.post("/api/v1/documents", content=content, headers=headers | {"Content-Type": "application/json"})
    assert response.status_code == 422


def test_a_body_that_is_no_utf8(api: TestClient, headers: dict[str, str]) -> None:
    response = api.post("/api/v1/documents", content=b"\xff", headers=headers | {"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "bad_request"


@pytest.mark.requirement("ERR-04")
def test_validation_details_never_repeat_the_input(auth: TestClient) -> None:
    response = auth.post("/api/auth/login", json={"username": "ada", "passwort": "hunter2-hunter2"})
    assert response.status_code == 422
    assert response.json()["error"]["message"] == "Validation error"
    details = response.json()["error"]["details"]
    assert {"loc": ["body", "password"], "msg": "Field required", "type": "missing"} in details
    assert all(set(item) == {"loc", "msg", "type"} for item in details)
    assert "hunter2" not in response.text


def test_unknown_fields_cost_one_error(auth: TestClient) -> None:
    body = {"username": "ada"} | {f"k{number}": 0 for number in range(80_000)}
    tracemalloc.start()
    try:
        with pytest.raises(ValidationError) as refused:
            LoginRequest.model_validate(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert refused.value.error_count() == 2
    with structlog.testing.capture_logs() as lines:
        response = auth.post("/api/auth/login", json=body)
    assert response.status_code == 422
    assert response.json()["error"]["details"] == [
        {"loc": ["body", "password"], "msg": "Field required", "type": "missing"},
        {"loc": ["body", "k0"], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"},
    ]
    assert [line["types"] for line in lines if line["event"] == "request.denied"] == [["missing", "extra_forbidden"]]


def test_a_long_field_name_is_cut(auth: TestClient) -> None:
    response = auth.post("/api/auth/login", json={"username": "ada", "password": "p", "é" * 300_000: 0})
    assert response.status_code == 422
    assert response.json()["error"]["details"][0]["loc"] == ["body", "é" * 100]


def test_many_long_errors_are_cut(broken: TestClient) -> None:
    with structlog.testing.capture_logs() as lines:
        response = broken.post("/api/v1/picky", json={"x" * 500: ["y" * 500] * 1000})
    assert response.status_code == 422
    details = response.json()["error"]["details"]
    assert len(details) == 20
    assert all(item["loc"] == ["body", "x" * 100, number] for number, item in enumerate(details))
    assert {len(item["msg"]) for item in details} == {200}
    assert [len(line["types"]) for line in lines if line["event"] == "request.denied"] == [20]


@pytest.mark.parametrize("path", ["/api/v1/documents/", "/healthz/", "/api/v1/users/me/"])
def test_a_slash_too_many_is_no_redirect(api: TestClient, headers: dict[str, str], path: str) -> None:
    response = api.get(path, headers=headers, follow_redirects=False)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_a_slash_too_many_is_no_redirect_of_a_login(auth: TestClient) -> None:
    response = auth.post("/api/auth/login/", json={"username": "ada", "password": "p"}, follow_redirects=False)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


@pytest.mark.requirement("ERR-05", "ERR-06")
def test_unknown_errors_say_nothing_about_themselves(broken: TestClient) -> None:
    response = broken.get("/api/v1/broken", headers={"X-Request-ID": "known"})
    assert response.status_code == 500
    assert response.headers["X-Request-ID"] == "known"
    assert response.json()["error"] == {
        "code": "internal_error",
        "message": "Internal server error",
        "request_id": "known",
        "details": None,
    }


@pytest.mark.requirement("ERR-01")
def test_a_page_of_another_origin_can_read_that_something_failed(broken: TestClient) -> None:
    response = broken.get("/api/v1/broken", headers=ORIGIN)
    assert response.status_code == 500
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
    assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"].split(", ")


def failures(lines: Sequence[MutableMapping[str, Any]]) -> list[object]:
    """The log lines with a stack."""
    return [line["event"] for line in lines if line.get("exc_info")]


@pytest.mark.requirement("ERR-10")
@pytest.mark.parametrize("path", ["/api/v1/broken", "/api/v1/torn"])
def test_unknown_errors_are_logged_once(broken: TestClient, caplog: pytest.LogCaptureFixture, path: str) -> None:
    with structlog.testing.capture_logs() as lines:
        assert "secret" not in broken.get(path).text
    assert failures(lines) == ["request.failed"]
    assert caplog.records == []


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Origin": "https://example.net", "Access-Control-Request-Method": "GET"}, "Disallowed CORS origin"),
        (ORIGIN | {"Access-Control-Request-Method": "DELETE"}, "Disallowed CORS method"),
        (ORIGIN | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "X-Own"}, "Disallowed CORS headers"),
    ],
)
def test_a_refused_preflight_has_the_envelope(broken: TestClient, headers: dict[str, str], message: str) -> None:
    response = broken.options("/api/v1/documents", headers=headers)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["message"], error["details"]) == ("bad_request", message, None)
    assert error["request_id"] == response.headers["X-Request-ID"]
    assert "Origin" in response.headers["Vary"]


@pytest.mark.requirement("SEC-08")
def test_an_allowed_preflight_is_answered(broken: TestClient) -> None:
    headers = ORIGIN | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "Idempotency-Key"}
    response = broken.options("/api/v1/documents", headers=headers)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]


@pytest.mark.requirement("ERR-06")
@pytest.mark.parametrize(("name", "logged"), [("taken", []), ("nobody", ["request.failed"]), ("UPPER", ["request.failed"])])
def test_broken_constraints_are_conflicts_and_some_are_our_mistakes(broken: TestClient, name: str, logged: list[str]) -> None:
    if name == "taken":
        name = f"taken-{uuid4()}"
        assert broken.post(f"/api/v1/users/{name}").status_code == 200
    with structlog.testing.capture_logs() as lines:
        response = broken.post(f"/api/v1/users/{name}")
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "conflict"
    assert failures(lines) == logged


def test_method_not_allowed_names_the_allowed_ones(api: TestClient) -> None:
    assert "GET" in api.delete("/api/v1/users/me").headers["Allow"]


@pytest.mark.requirement("ERR-08")
def test_openapi_shows_the_envelope(api: TestClient) -> None:
    schema = api.get("/openapi.json").json()
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status in ("default", "422"):
                content = operation["responses"][status]["content"]["application/json"]
                assert content["schema"]["$ref"].endswith("/ErrorResponse")
