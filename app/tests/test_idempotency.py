"""A command with an Idempotency-Key runs once, however often and however much in parallel it is sent."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from fastapi.routing import APIRoute
from psycopg.rows import dict_row
from pydantic import BaseModel, create_model
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from seawall_service.db.pool import Connection, connection_arguments
from seawall_service.documents.router import router as documents_router
from seawall_service.idempotency.service import Keyed, run_once
from seawall_service.main import create_app
from seawall_service.schemas import StrictRequest
from seawall_service.startup_gate import load_settings
from seawall_service.users.router import router as users_router
from tests.conftest import client_of


class Done(BaseModel):
    pass


async def nothing() -> Done:
    return Done()


@pytest.fixture
def entries(api: TestClient, headers: dict[str, str]) -> str:
    document = api.post("/api/v1/documents", json={"title": "Log book"}, headers=headers).json()
    return f"/api/v1/documents/{document['id']}/entries"


def count(api: TestClient, entries: str, headers: dict[str, str]) -> int:
    return int(api.get(entries.removesuffix("/entries"), headers=headers).json()["entry_count"])


@pytest.mark.requirement("DB-05")
def test_the_second_answer_is_the_first_one(api: TestClient, headers: dict[str, str], entries: str) -> None:
    keyed = headers | {"Idempotency-Key": "one"}
    with capture_logs() as at_first:
        first = api.post(entries, json={"content": "a"}, headers=keyed)
    with capture_logs() as again:
        second = api.post(entries, json={"content": "a"}, headers=keyed)
    assert (first.status_code, second.status_code) == (201, 201)
    hits = [[line for line in lines if line["event"] == "idempotency.cache_hit"] for lines in (at_first, again)]
    assert [len(found) for found in hits] == [0, 1]
    assert hits[1][0]["command_name"] == "AppendEntry"
    assert first.content == second.content
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]
    assert count(api, entries, headers) == 1


@pytest.mark.requirement("DB-05")
def test_an_answer_is_kept_for_a_day(
    api: TestClient, headers: dict[str, str], entries: str, database: psycopg.Connection
) -> None:
    api.post(entries, json={"content": "a"}, headers=headers | {"Idempotency-Key": "one"})
    hours = "SELECT extract(epoch FROM expires_at - now()) / 3600 FROM state_idempotency WHERE principal_id = %s"
    ((left,),) = database.execute(hours.encode(), (headers["X-Principal-Id"],)).fetchall()
    assert 23.9 < left <= 24


@pytest.mark.requirement("DB-05")
def test_another_releases_answer_is_repeated_as_far_as_this_one_knows_it(
    api: TestClient, headers: dict[str, str], entries: str, database: psycopg.Connection
) -> None:
    keyed = headers | {"Idempotency-Key": "one"}
    first = api.post(entries, json={"content": "a"}, headers=keyed)
    stored = "UPDATE state_idempotency SET response = {} WHERE principal_id = %s"
    who = (headers["X-Principal-Id"],)
    database.execute(stored.format("response || '{\"newer\": 1}'").encode(), who)
    again = api.post(entries, json={"content": "a"}, headers=keyed)
    assert (again.status_code, again.json()) == (201, first.json())
    database.execute(stored.format("response - 'position'").encode(), who)
    unknown = api.post(entries, json={"content": "a"}, headers=keyed)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (409, "conflict")
    assert count(api, entries, headers) == 1


def with_newer_models(route: APIRoute) -> Callable[..., object]:
    """The route's own function as a later release may have it: its body has one more field, and that one comes first."""
    now = cast("FunctionType", route.endpoint)
    body = now.__annotations__["body"]
    fields: dict[str, Any] = {
        "added_later": (str, "a default"),
        **{name: (field.annotation, field) for name, field in body.model_fields.items()},
    }
    later = FunctionType(now.__code__, now.__globals__, now.__name__, now.__defaults__, now.__closure__)
    later.__annotations__ = now.__annotations__ | {"body": create_model("LaterRequest", __base__=StrictRequest, **fields)}
    return later


@pytest.fixture(scope="module")
def later() -> Iterator[TestClient]:
    app = create_app(load_settings("api"))
    for route in [*documents_router.routes, *users_router.routes]:
        if isinstance(route, APIRoute) and "body" in route.endpoint.__annotations__:
            newer = with_newer_models(route)
            app.add_api_route(f"/later{route.path}", newer, methods=list(route.methods or ()), status_code=route.status_code)
    with client_of(app) as client:
        yield client


@pytest.mark.requirement("DB-05")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/documents", {"title": "t"}),
        ("POST", "/api/v1/documents/{document}/entries", {"content": "a"}),
        ("POST", "/api/v1/documents/{document}/entries", {"content": "a", "expected_version": None}),
        ("POST", "/api/v1/documents/{document}/members", {"user_id": str(UUID(int=7)), "role": "viewer"}),
        ("POST", "/api/v1/documents/{document}/transfer", {"to_user_id": "{member}"}),
        ("PATCH", "/api/v1/users/{user}", {"display_name": "Ada"}),
    ],
)
def test_a_key_outlasts_a_release_that_knows_more_fields(
    api: TestClient, later: TestClient, user_id: str, method: str, path: str, body: dict[str, Any]
) -> None:
    sent = {"X-Principal-Id": user_id}
    document, member = api.post("/api/v1/documents", json={"title": "t"}, headers=sent).json()["id"], str(uuid4())
    added = api.post(f"/api/v1/documents/{document}/members", json={"user_id": member, "role": "viewer"}, headers=sent)
    assert added.status_code == 201
    names = {"document": document, "member": member, "user": user_id}
    asked = {name: value.format(**names) if isinstance(value, str) else value for name, value in body.items()}
    path, keyed = path.format(**names), sent | {"Idempotency-Key": "one"}
    first = api.request(method, path, json=asked, headers=keyed)
    assert first.status_code in {200, 201}, first.text
    second = later.request(method, f"/later{path}", json=asked, headers=keyed)
    assert (second.status_code, second.content) == (first.status_code, first.content)
    other = later.request(method, f"/later{path}", json=asked | {"added_later": "said"}, headers=keyed)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


def test_creating_a_document_too(api: TestClient, headers: dict[str, str]) -> None:
    keyed = headers | {"Idempotency-Key": "create"}
    ids = {api.post("/api/v1/documents", json={"title": "t"}, headers=keyed).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    assert len(api.get("/api/v1/documents", headers=headers).json()["items"]) == 1


def test_a_key_belongs_to_one_request(api: TestClient, headers: dict[str, str], entries: str) -> None:
    keyed = headers | {"Idempotency-Key": "one"}
    api.post(entries, json={"content": "a"}, headers=keyed)
    for path, body in ((entries, {"content": "b"}), ("/api/v1/documents", {"title": "a"})):
        other = api.post(path, json=body, headers=keyed)
        assert other.status_code == 409
        assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert count(api, entries, headers) == 1


def test_a_key_belongs_to_one_user(api: TestClient, headers: dict[str, str]) -> None:
    key = {"Idempotency-Key": "shared"}
    mine = api.post("/api/v1/documents", json={"title": "t"}, headers=headers | key).json()
    other = {"X-Principal-Id": str(uuid4())}
    assert api.post("/api/v1/documents", json={"title": "t"}, headers=other | key).json()["id"] != mine["id"]


def test_a_refused_command_does_not_use_the_key_up(api: TestClient, headers: dict[str, str], entries: str) -> None:
    keyed = headers | {"Idempotency-Key": "later"}
    assert api.post(entries, json={"content": "a", "expected_version": 7}, headers=keyed).status_code == 409
    assert api.post(entries, json={"content": "a", "expected_version": 1}, headers=keyed).status_code == 201


@pytest.mark.requirement("DB-05")
def test_parallel_repeats_run_once(api: TestClient, headers: dict[str, str], entries: str) -> None:
    keyed = headers | {"Idempotency-Key": "parallel"}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: api.post(entries, json={"content": "a"}, headers=keyed), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert count(api, entries, headers) == 1


def test_an_expired_key_runs_again_and_is_cleared(
    api: TestClient, headers: dict[str, str], entries: str, database: psycopg.Connection
) -> None:
    keyed = headers | {"Idempotency-Key": "old"}
    # Older than those of other tests, since only so many are cleared at once.
    expire = "UPDATE state_idempotency SET expires_at = now() - interval '1 year' WHERE principal_id = %s"
    first = api.post(entries, json={"content": "a"}, headers=keyed).json()
    database.execute(expire, (headers["X-Principal-Id"],))
    assert api.post(entries, json={"content": "a"}, headers=keyed).json()["id"] != first["id"]
    database.execute(expire, (headers["X-Principal-Id"],))
    api.post(entries, json={"content": "b"}, headers=headers | {"Idempotency-Key": "new"})
    kept = database.execute(
        "SELECT count(*) FROM state_idempotency WHERE expires_at <= now() AND principal_id = %s", (headers["X-Principal-Id"],)
    ).fetchone()
    assert kept is not None
    assert kept[0] == 0


async def run_while_another_runs(principal_id: UUID, expired: str) -> None:
    """Two transactions: while the first one's command runs, the second one runs to its end with an expired key."""
    arguments = connection_arguments(load_settings("command")) | {"row_factory": dict_row}

    def keyed(key: str) -> Keyed:
        return Keyed(principal_id, key, "Nothing", b"")

    async def meanwhile(second: Connection) -> Done:
        async with asyncio.timeout(30), second.transaction():
            return await run_once(second, keyed(expired), Done, nothing)

    async with (
        await psycopg.AsyncConnection.connect(**arguments) as first,
        await psycopg.AsyncConnection.connect(**arguments) as second,
        first.transaction(),
    ):
        await run_once(first, keyed("running"), Done, lambda: meanwhile(second))


def test_nobody_waits_for_the_clearing_of_others(principal_id: UUID, database: psycopg.Connection) -> None:
    database.execute(
        "INSERT INTO state_idempotency (principal_id, key, request_digest, expires_at) VALUES (%s, 'expired', '', '-infinity')",
        (principal_id,),
    )
    asyncio.run(run_while_another_runs(principal_id, "expired"))
    kept = database.execute("SELECT key FROM state_idempotency WHERE principal_id = %s ORDER BY key", (principal_id,)).fetchall()
    assert kept == [("expired",), ("running",)]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 201])
def test_bad_keys_are_refused(api: TestClient, headers: dict[str, str], entries: str, key: str) -> None:
    answer = api.post(entries, json={"content": "a"}, headers=headers | {"Idempotency-Key": key})
    assert answer.status_code == 422


@pytest.mark.parametrize("second", ["one", "two"])
def test_several_keys_are_refused(api: TestClient, headers: dict[str, str], entries: str, second: str) -> None:
    sent = [*headers.items(), ("Idempotency-Key", "one"), ("idempotency-key", second)]
    for path, body in ((entries, {"content": "a"}), ("/api/v1/documents", {"title": "t"})):
        answer = api.post(path, json=body, headers=sent)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "validation_error"
        assert answer.json()["error"]["details"][0]["loc"] == ["header", "Idempotency-Key"]
    assert count(api, entries, headers) == 0


def test_the_key_is_published(api: TestClient) -> None:
    operation = api.get("/openapi.json").json()["paths"]["/api/v1/documents"]["post"]
    header = next(parameter for parameter in operation["parameters"] if parameter["in"] == "header")
    assert (header["name"], header["required"]) == ("Idempotency-Key", False)
