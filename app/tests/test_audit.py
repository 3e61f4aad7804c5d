"""Who changed what: a row for each change, written and undone with it, and nothing that a user wrote."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from psycopg.rows import dict_row
from starlette.testclient import TestClient

from seawall_service.audit import service as audit
from seawall_service.audit.service import MAX_USER_AGENT
from seawall_service.deps import Context, CurrentUserId, DbSession
from seawall_service.documents import service
from seawall_service.documents.commands import CreateDocument
from seawall_service.errors import ConflictError
from seawall_service.main import create_app
from seawall_service.startup_gate import load_settings
from tests.conftest import client_of
from tests.test_documents import create
from tests.test_membership import add, give, id_of, user

type Audited = Callable[..., TestClient]


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Audited]:
    clients: list[TestClient] = []

    def start(change: Callable[[FastAPI], None] | None = None, **environment: str) -> TestClient:
        for name, value in ({"AUDIT_ENABLED": "true"} | environment).items():
            monkeypatch.setenv(name, value)
        app = create_app(load_settings("api"))
        if change:
            change(app)
        client = client_of(app)
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def rows(database: psycopg.Connection, headers: dict[str, str]) -> list[dict[str, Any]]:
    cursor = database.cursor(row_factory=dict_row)
    query = "SELECT *, ts > now() - interval '1 minute' AS fresh, host(ip) AS address FROM audit_events WHERE user_id = %s"
    return cursor.execute(f"{query} ORDER BY id".encode(), (id_of(headers),)).fetchall()


@pytest.mark.requirement("AUD-01", "AUD-02", "LOG-01")
def test_a_row_for_each_change(audited: Audited, headers: dict[str, str], database: psycopg.Connection) -> None:
    api = audited()
    other = user()
    sent = headers | {"X-Request-ID": "r-1", "User-Agent": "browser/1", "X-Forwarded-For": "203.0.113.9"}
    document_id = create(api, sent)
    path = f"/api/v1/documents/{document_id}"
    entry = api.post(f"{path}/entries", json={"content": "kept secret"}, headers=sent | {"Idempotency-Key": "k"}).json()
    add(api, path, sent, other, "viewer")
    give(api, path, sent, other)
    found = rows(database, headers)
    assert [(row["action"], row["metadata"]) for row in found] == [
        ("document.create", {"title_len": 8}),
        ("document.append", {"entry_id": entry["id"], "content_len": 11, "idempotency_key": "k"}),
        ("document.add_member", {"member_id": id_of(other), "role": "viewer"}),
        ("document.transfer", {"from": id_of(headers), "to": id_of(other)}),
    ]
    assert {(row["request_id"], row["user_agent"], row["address"], str(row["document_id"]), row["fresh"]) for row in found} == {
        ("r-1", "browser/1", "203.0.113.9", document_id, True)
    }
    assert "kept secret" not in json.dumps(found, default=str)


@pytest.mark.requirement("AUD-02", "DB-05")
def test_a_row_for_a_user_who_changes(audited: Audited, user_id: str, database: psycopg.Connection) -> None:
    api = audited()
    keyed = {"X-Principal-Id": user_id, "Idempotency-Key": "once"}
    answers = [api.patch(f"/api/v1/users/{user_id}", json={"display_name": "Ada"}, headers=keyed) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert [(row["action"], row["document_id"], row["metadata"]) for row in rows(database, keyed)] == [
        ("user.update", None, {"display_name_len": 3, "idempotency_key": "once"})
    ]
    events = database.execute("SELECT count(*) FROM events WHERE stream_id = %s AND type = 'user.updated'", (user_id,))
    assert events.fetchone() == (1,)
    other = api.patch(f"/api/v1/users/{user_id}", json={"display_name": "Eve"}, headers=keyed)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


@pytest.mark.requirement("AUD-02")
def test_what_changes_nothing_leaves_no_row(audited: Audited, headers: dict[str, str], database: psycopg.Connection) -> None:
    api = audited()
    path = f"/api/v1/documents/{create(api, headers)}"
    keyed = headers | {"Idempotency-Key": "once"}
    for _ in range(3):
        api.post(f"{path}/entries", json={"content": "x"}, headers=keyed)
    api.post(f"{path}/entries", json={"content": "x", "expected_version": 9}, headers=headers)
    member = user()
    for _ in range(2):
        add(api, path, headers, member)
    give(api, path, member, headers)
    assert [row["action"] for row in rows(database, headers)] == ["document.create", "document.append", "document.add_member"]
    assert rows(database, member) == []


@pytest.mark.requirement("AUD-02")
def test_a_row_is_undone_with_its_change(audited: Audited, headers: dict[str, str], database: psycopg.Connection) -> None:
    def with_a_spoiler(app: FastAPI) -> None:
        @app.post("/api/v1/spoil")
        async def spoil(principal_id: CurrentUserId, connection: DbSession, context: Context) -> None:
            await service.create_document(connection, CreateDocument("t"), principal_id, context)
            cursor = await connection.execute("SELECT count(*) AS n FROM audit_events WHERE user_id = %s", (principal_id,))
            raise ConflictError("later in the same transaction", await cursor.fetchone())

    api = audited(with_a_spoiler)
    spoiled = api.post("/api/v1/spoil", headers=headers)
    assert (spoiled.status_code, spoiled.json()["error"]["details"]) == (409, {"n": 1})
    assert rows(database, headers) == []


@pytest.mark.requirement("AUD-03", "SEC-12")
@pytest.mark.parametrize("environment", [{"AUDIT_ENABLED": "false"}, {"AUDIT_SAMPLE_RATE": "0.0"}, {"AUDIT_ENABLED": ""}])
def test_off_or_sampled_out_is_no_row(
    audited: Audited, headers: dict[str, str], database: psycopg.Connection, environment: dict[str, str]
) -> None:
    api = audited(**environment)
    api.post(f"/api/v1/documents/{create(api, headers)}/entries", json={"content": "x"}, headers=headers)
    assert rows(database, headers) == []


@pytest.mark.requirement("AUD-03")
def test_a_sample_is_a_part(
    audited: Audited, headers: dict[str, str], database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "CHANCE", Random("a quarter"))
    api, drawn = audited(AUDIT_SAMPLE_RATE="0.25"), Random("a quarter")
    for _ in range(40):
        create(api, headers)
    assert 0 < len(rows(database, headers)) == sum(drawn.random() < 0.25 for _ in range(40)) < 20


@pytest.mark.requirement("AUD-01")
def test_only_the_beginning_of_a_text_is_kept() -> None:
    assert audit.storable_metadata({"note": "x" * 5000, "count": 5000}) == {"note": "x" * audit.MAX_METADATA_TEXT, "count": 5000}


@pytest.mark.requirement("AUD-03", "SEC-09")
def test_what_clients_make_up_is_bounded(audited: Audited, headers: dict[str, str], database: psycopg.Connection) -> None:
    api = audited()
    strange = {"User-Agent": "x" * 5000, "X-Forwarded-For": "not an address"}
    create(api, headers | strange)
    create(api, headers | {"User-Agent": "a\x1b[31mb", "X-Forwarded-For": "fe80::1%eth0"})
    path = f"/api/v1/documents/{create(api, headers)}"
    assert api.post(f"{path}/entries", json={"content": "x"}, headers=headers | {"Idempotency-Key": "k" * 200}).status_code == 201
    found = rows(database, headers)
    assert [row["address"] for row in found[:2]] == [None, None]
    assert found[0]["user_agent"] == "x" * MAX_USER_AGENT
    assert found[1]["user_agent"] == "a[31mb"
    assert found[3]["metadata"]["idempotency_key"] == "k" * 200


@pytest.mark.requirement("AUD-01", "SEC-06")
@pytest.mark.parametrize(
    "statement", ["UPDATE audit_events SET action = 'a.b'", "DELETE FROM audit_events", "TRUNCATE audit_events"]
)
def test_nobody_changes_what_was_written(database: psycopg.Connection, owner: psycopg.Connection, statement: str) -> None:
    for connection in (database, owner):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@pytest.mark.requirement("SEC-06")
def test_every_table_has_the_grants_of_its_name(owner: psycopg.Connection) -> None:
    assert owner.execute("SELECT * FROM seawall.grant_drift").fetchall() == []
    classes: dict[str, str | None] = dict(
        owner.execute(
            "SELECT relname::text, seawall.table_class(relname) FROM pg_class"
            " WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p')"
        ).fetchall()
    )
    assert None not in classes.values()
    assert classes["audit_events"] == classes["events"] == "append"
