"""CACHE-01 to 03: what is cached, for whom, for how long, and that nothing stale outlives a change."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import override
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
import structlog
from redis.asyncio import Redis
from starlette.testclient import TestClient

from seawall_service.cache.interface import Cache, Lookup
from seawall_service.cache.redis_cache import RedisCache
from seawall_service.extensions import DEFAULT_EXTENSIONS, Extensions
from seawall_service.main import create_app
from seawall_service.settings import Settings
from seawall_service.startup_gate import load_settings
from tests.conftest import client_of
from tests.tcp_proxy import Proxy

type Caching = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture
def prefix() -> str:
    return f"test:{uuid4()}:"


@pytest.fixture
def caching(monkeypatch: pytest.MonkeyPatch, prefix: str) -> Caching:
    @contextmanager
    def start(extensions: Extensions = DEFAULT_EXTENSIONS, **environment: str) -> Iterator[TestClient]:
        for name, value in {"CACHE_ENABLED": "true", "CACHE_PREFIX": prefix, **environment}.items():
            monkeypatch.setenv(name, value)
        with client_of(create_app(load_settings("api"), extensions)) as client:
            yield client

    return start


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    password = Path(os.environ["REDIS_PASSWORD_FILE"]).read_text(encoding="utf-8").strip()
    with redis.Redis.from_url(os.environ["REDIS_URL"], password=password) as client:
        yield client


def as_user(user_id: str) -> dict[str, str]:
    return {"X-Principal-Id": user_id}


def befriend(client: TestClient, database: psycopg.Connection, owner: str, member: str) -> str:
    """A document of the owner that the member may read, too."""
    document: str = client.post("/api/v1/documents", json={"title": "shared"}, headers=as_user(owner)).json()["id"]
    database.execute("INSERT INTO proj_memberships VALUES (%s, %s, 'editor')", (member, document))
    return document


def name_of(client: TestClient, user_id: str, reader: str | None = None) -> str | None:
    answer = client.get(f"/api/v1/users/{user_id}", headers=as_user(reader or user_id))
    assert answer.status_code == 200, answer.text
    name: str | None = answer.json()["display_name"]
    return name


def rename(client: TestClient, user_id: str, name: str) -> None:
    answer = client.patch(f"/api/v1/users/{user_id}", json={"display_name": name}, headers=as_user(user_id))
    assert (answer.status_code, answer.json()["display_name"]) == (200, name)


def change_behind_the_back(database: psycopg.Connection, user_id: str, name: str) -> None:
    database.execute("UPDATE proj_users SET display_name = %s WHERE id = %s", (name, user_id))


@pytest.mark.requirement("CACHE-01")
def test_off_by_default(api: TestClient, database: psycopg.Connection, user_id: str, server: redis.Redis) -> None:
    before = server.dbsize()
    assert name_of(api, user_id) is None
    change_behind_the_back(database, user_id, "changed")
    assert name_of(api, user_id) == "changed"
    assert server.dbsize() == before


@pytest.mark.requirement("CACHE-01", "CACHE-02")
def test_what_is_kept_and_for_how_long(
    caching: Caching, database: psycopg.Connection, user_id: str, username: str, server: redis.Redis, prefix: str
) -> None:
    with caching() as client:
        assert name_of(client, user_id) is None
        change_behind_the_back(database, user_id, "changed")
        assert name_of(client, user_id) is None
        kept = server.get(f"{prefix}users:{user_id}")
        assert isinstance(kept, bytes)
        assert json.loads(kept[1:]) == {"id": user_id, "username": username, "display_name": None}
        assert 0 < server.pttl(f"{prefix}users:{user_id}") <= 60_000


@pytest.mark.requirement("CACHE-01")
def test_a_shorter_default_is_kept(caching: Caching, user_id: str, server: redis.Redis, prefix: str) -> None:
    with caching(CACHE_DEFAULT_TTL_SECONDS="7") as client:
        name_of(client, user_id)
        assert 0 < server.pttl(f"{prefix}users:{user_id}") <= 7_000


@pytest.mark.requirement("CACHE-02")
def test_who_may_not_see_a_user_never_gets_a_hit(caching: Caching, database: psycopg.Connection, user_id: str) -> None:
    friend, stranger = str(uuid4()), str(uuid4())
    with caching() as client:
        befriend(client, database, user_id, friend)
        assert name_of(client, user_id, friend) is None
        for reader in (friend, stranger):
            refused = client.get(f"/api/v1/users/{user_id if reader == stranger else uuid4()}", headers=as_user(reader))
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
        # Nor does somebody who could see it until now.
        database.execute("DELETE FROM proj_memberships WHERE user_id = %s", (friend,))
        assert client.get(f"/api/v1/users/{user_id}", headers=as_user(friend)).status_code == 404


@pytest.mark.requirement("CACHE-02")
def test_every_answer_has_its_own_request_id(caching: Caching, user_id: str) -> None:
    with caching() as client:
        answers = [client.get(f"/api/v1/users/{user_id}", headers=as_user(user_id)) for _ in range(3)]
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 3
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.requirement("CACHE-02")
def test_a_change_is_seen_at_once(caching: Caching, database: psycopg.Connection, user_id: str) -> None:
    friend = str(uuid4())
    with caching() as client, caching() as other_container:
        befriend(client, database, user_id, friend)
        for name in ("Ada", "Ada King", "Ada"):
            rename(client, user_id, name)
            assert name_of(other_container, user_id, friend) == name
            assert name_of(client, user_id) == name


class Interrupted(RedisCache):
    """Between the read of the database and the store, somebody else changes the user."""

    meanwhile: Callable[[], None] | None = None

    @override
    async def fill(self, key: str, value: bytes, lease: str, *, at_most_seconds: int) -> None:
        if self.meanwhile is not None:
            self.meanwhile()
        await super().fill(key, value, lease, at_most_seconds=at_most_seconds)


@pytest.mark.requirement("CACHE-02")
def test_a_value_that_was_read_before_a_change_is_not_stored_after_it(caching: Caching, user_id: str) -> None:
    built: list[Interrupted] = []

    def build(settings: Settings, client: Redis | None) -> Cache:
        assert client is not None
        built.append(Interrupted(client, settings.cache_prefix, 60))
        return built[-1]

    with caching() as other_container, caching(Extensions(build_cache=build)) as slow_container:
        built[0].meanwhile = lambda: rename(other_container, user_id, "new")
        # The slow reader itself may still say what it read; nobody may after it.
        assert name_of(slow_container, user_id) is None
        built[0].meanwhile = None
        assert name_of(other_container, user_id) == "new"
        assert name_of(slow_container, user_id) == "new"


@pytest.mark.requirement("CACHE-02")
def test_what_is_kept_is_deleted_after_the_commit(caching: Caching, database: psycopg.Connection, user_id: str) -> None:
    """Before it, a reader would keep the old name again."""
    seen: list[str] = []

    class Watched(RedisCache):
        @override
        async def delete(self, key: str) -> None:
            row = database.execute("SELECT display_name FROM proj_users WHERE id = %s", (user_id,)).fetchone()
            assert row is not None
            seen.append(row[0])
            await super().delete(key)

    def build(settings: Settings, client: Redis | None) -> Cache:
        assert client is not None
        return Watched(client, settings.cache_prefix, 60)

    with caching(Extensions(build_cache=build)) as client:
        rename(client, user_id, "new")
    assert seen[-1:] == ["new"]


@pytest.mark.requirement("CACHE-02", "DB-05")
def test_a_repeated_change_deletes_again_what_is_kept(caching: Caching, database: psycopg.Connection, user_id: str) -> None:
    """The cache may have been away when it ran."""
    keyed = as_user(user_id) | {"Idempotency-Key": "rename"}
    with caching() as client:
        for kept, meanwhile in (("first", "changed"), ("changed", "again")):
            answer = client.patch(f"/api/v1/users/{user_id}", json={"display_name": "first"}, headers=keyed)
            assert (answer.status_code, answer.json()["display_name"]) == (200, "first")
            assert name_of(client, user_id) == kept
            change_behind_the_back(database, user_id, meanwhile)
            assert name_of(client, user_id) == kept


@pytest.mark.requirement("CACHE-02")
def test_what_another_release_stored_is_a_miss(caching: Caching, user_id: str, server: redis.Redis, prefix: str) -> None:
    server.set(f"{prefix}users:{user_id}", b'={"id": 7}', ex=60)
    with caching() as client, structlog.testing.capture_logs() as lines:
        assert name_of(client, user_id) is None
    assert [line["operation"] for line in lines if line["event"] == "cache.error"] == ["read"]


@pytest.mark.requirement("CACHE-03")
@pytest.mark.parametrize("harm", ["refuse", "freeze"])
def test_without_its_server_it_is_only_slower(caching: Caching, user_id: str, harm: str) -> None:
    address = urlsplit(os.environ["REDIS_URL"])
    assert address.hostname is not None
    with (
        Proxy(address.hostname, address.port or 6379) as line,
        caching(REDIS_URL=f"redis://seawall@127.0.0.1:{line.port}/0") as client,
        structlog.testing.capture_logs() as lines,
    ):
        rename(client, user_id, "before")
        assert name_of(client, user_id) == "before"
        getattr(line, harm)()
        rename(client, user_id, "during")
        assert [name_of(client, user_id) for _ in range(20)] == ["during"] * 20
        line.heal()
    errors = [line["operation"] for line in lines if line["event"] == "cache.error"]
    assert errors[0] == "delete"
    # Not every request waits for a server that has just failed.
    assert len(errors) < 15


@pytest.mark.requirement("CODE-02")
def test_another_cache_can_be_put_in(caching: Caching, user_id: str) -> None:
    class Fixed(Cache):
        @override
        async def look_up(self, key: str) -> Lookup:
            return Lookup(value=json.dumps({"id": user_id, "username": key, "display_name": "fixed"}).encode())

        @override
        async def fill(self, key: str, value: bytes, lease: str, *, at_most_seconds: int) -> None:
            raise AssertionError

        @override
        async def delete(self, key: str) -> None:
            raise AssertionError

    with caching(Extensions(build_cache=lambda *_: Fixed())) as client:
        assert name_of(client, user_id) == "fixed"
