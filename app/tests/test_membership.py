"""Documents change hands and gain members, by their owner's word alone."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from starlette.testclient import TestClient

from tests.test_documents import create

SHARERS = 6


def user() -> dict[str, str]:
    return {"X-Principal-Id": str(uuid4())}


def id_of(headers: dict[str, str]) -> str:
    return headers["X-Principal-Id"]


def add(api: TestClient, path: str, owner: dict[str, str], member: dict[str, str], role: str = "editor", **more: object) -> int:
    body = {"user_id": id_of(member), "role": role} | more
    return api.post(f"{path}/members", json=body, headers=owner).status_code


def give(api: TestClient, path: str, owner: dict[str, str], to: dict[str, str], **more: object) -> int:
    return api.post(f"{path}/transfer", json={"to_user_id": id_of(to)} | more, headers=owner).status_code


def append(api: TestClient, path: str, headers: dict[str, str]) -> int:
    return api.post(f"{path}/entries", json={"content": "x"}, headers=headers).status_code


@pytest.fixture
def path(api: TestClient, headers: dict[str, str]) -> str:
    return f"/api/v1/documents/{create(api, headers)}"


def events_of(database: psycopg.Connection, path: str) -> list[tuple[int, str]]:
    return database.execute(
        "SELECT stream_version, type FROM events WHERE stream_id = %s ORDER BY position", (path.rsplit("/", 1)[1],)
    ).fetchall()


def test_a_member_is_added_with_a_role(api: TestClient, headers: dict[str, str], path: str, database: psycopg.Connection) -> None:
    member = user()
    answer = api.post(f"{path}/members", json={"user_id": id_of(member), "role": "viewer"}, headers=headers)
    assert answer.status_code == 201
    assert answer.json() == {
        "document_id": path.rsplit("/", 1)[1],
        "user_id": id_of(member),
        "role": "viewer",
        "added_at": answer.json()["added_at"],
        "version": 2,
    }
    assert api.get(path, headers=member).json()["version"] == 2
    assert [item["id"] for item in api.get("/api/v1/documents", headers=member).json()["items"]] == [path.rsplit("/", 1)[1]]
    assert events_of(database, path) == [(1, "document.created"), (2, "document.member_added")]


def test_editors_append_and_viewers_only_read(api: TestClient, headers: dict[str, str], path: str) -> None:
    editor, viewer = user(), user()
    assert [add(api, path, headers, editor), add(api, path, headers, viewer, "viewer")] == [201, 201]
    assert append(api, path, editor) == 201
    refused = api.post(f"{path}/entries", json={"content": "x"}, headers=viewer)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert [api.get(path, headers=who).json()["entry_count"] for who in (headers, editor, viewer)] == [1, 1, 1]


def test_adding_again_changes_nothing(api: TestClient, headers: dict[str, str], path: str, database: psycopg.Connection) -> None:
    member = user()
    body = {"user_id": id_of(member), "role": "editor"}
    first, second = (api.post(f"{path}/members", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert len(events_of(database, path)) == 2


def test_another_role_is_a_conflict(api: TestClient, headers: dict[str, str], path: str) -> None:
    member = user()
    assert add(api, path, headers, member, "viewer") == 201
    answer = api.post(f"{path}/members", json={"user_id": id_of(member), "role": "editor"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["details"]) == (409, {"role": "viewer"})
    answer = api.post(f"{path}/members", json={"user_id": id_of(headers), "role": "editor"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["details"]) == (409, {"role": "owner"})


def test_a_document_changes_hands(api: TestClient, headers: dict[str, str], path: str, database: psycopg.Connection) -> None:
    heir = user()
    add(api, path, headers, heir, "viewer")
    answer = api.post(f"{path}/transfer", json={"to_user_id": id_of(heir), "expected_version": 2}, headers=headers)
    assert answer.status_code == 200
    assert (answer.json()["owner_id"], answer.json()["version"]) == (id_of(heir), 3)
    assert events_of(database, path)[-1] == (3, "document.transferred")
    assert append(api, path, headers) == 201
    again = api.post(f"{path}/transfer", json={"to_user_id": id_of(headers)}, headers=headers)
    assert (again.status_code, again.json()["error"]["code"]) == (403, "ownership_required")
    assert give(api, path, heir, headers) == 200
    roles = database.execute(
        "SELECT role FROM proj_memberships WHERE document_id = %s ORDER BY role", (path.rsplit("/", 1)[1],)
    ).fetchall()
    assert roles == [("editor",), ("owner",)]


def test_a_known_user_need_not_be_a_member(
    api: TestClient, headers: dict[str, str], path: str, database: psycopg.Connection
) -> None:
    heir, left = user(), user()
    for who, disabled in ((heir, None), (left, "now")):
        database.execute(
            "INSERT INTO proj_users (id, username, password_hash, disabled_at) VALUES (%s, %s, '', %s)",
            (id_of(who), f"u-{id_of(who)}", disabled),
        )
    assert give(api, path, headers, left) == 422
    assert give(api, path, headers, heir) == 200
    assert api.get(path, headers=heir).status_code == 200


def test_nobody_knows_the_new_owner(api: TestClient, headers: dict[str, str], path: str) -> None:
    answer = api.post(f"{path}/transfer", json={"to_user_id": str(uuid4())}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "validation_error")
    assert answer.json()["error"]["details"][0]["loc"] == ["body", "to_user_id"]
    assert give(api, path, headers, headers) == 409


def test_only_the_owner_shares(api: TestClient, headers: dict[str, str], path: str) -> None:
    editor, stranger = user(), user()
    add(api, path, headers, editor)
    assert [add(api, path, who, user()) for who in (editor, stranger)] == [403, 404]
    assert [give(api, path, who, editor) for who in (editor, stranger)] == [403, 404]
    refused = api.post(f"{path}/members", json={"user_id": str(uuid4()), "role": "editor"}, headers=editor)
    assert refused.json()["error"]["code"] == "ownership_required"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_id": "x", "role": "editor"},
        {"user_id": 7, "role": "editor"},
        {"user_id": uuid4().hex, "role": "editor"},
        {"user_id": f"{{{uuid4()}}}", "role": "editor"},
        {"user_id": str(uuid4()), "role": "owner"},
        {"user_id": str(uuid4()), "role": "editor", "more": 1},
        {"user_id": str(uuid4()), "role": "editor", "expected_version": "1"},
    ],
)
def test_bad_members_are_refused(api: TestClient, headers: dict[str, str], path: str, body: object) -> None:
    assert api.post(f"{path}/members", json=body, headers=headers).status_code == 422


def test_a_stale_owner_is_told(api: TestClient, headers: dict[str, str], path: str) -> None:
    member = user()
    assert add(api, path, headers, member, expected_version=2) == 409
    assert give(api, path, headers, member, expected_version=9) == 409
    assert add(api, path, headers, member, expected_version=1) == 201


def test_of_parallel_transfers_one_wins(api: TestClient, headers: dict[str, str], path: str) -> None:
    heirs = [user() for _ in range(SHARERS)]
    for heir in heirs:
        add(api, path, headers, heir)
    with ThreadPoolExecutor(SHARERS) as threads:
        statuses = sorted(threads.map(lambda heir: give(api, path, headers, heir), heirs))
    assert statuses == [200] + [403] * (SHARERS - 1)


def test_with_a_key_both_run_once(api: TestClient, headers: dict[str, str], path: str, database: psycopg.Connection) -> None:
    heir = user()
    keyed = headers | {"Idempotency-Key": "share"}
    body = {"user_id": id_of(heir), "role": "editor"}
    assert len({api.post(f"{path}/members", json=body, headers=keyed).content for _ in range(2)}) == 1
    keyed = headers | {"Idempotency-Key": "give"}
    given = [api.post(f"{path}/transfer", json={"to_user_id": id_of(heir)}, headers=keyed) for _ in range(2)]
    assert [answer.status_code for answer in given] == [200, 200]
    assert given[0].content == given[1].content
    assert len(events_of(database, path)) == 3


def test_events_name_the_request(api: TestClient, headers: dict[str, str], database: psycopg.Connection) -> None:
    document_id = api.post("/api/v1/documents", json={"title": "t"}, headers=headers | {"X-Request-ID": "the-cause"}).json()["id"]
    assert database.execute("SELECT request_id FROM events WHERE stream_id = %s", (document_id,)).fetchall() == [("the-cause",)]
