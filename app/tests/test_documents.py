"""Documents: created, appended to, read and listed by whoever is a member, and nobody else."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from starlette.testclient import TestClient

from seawall_service.documents import service

DOCUMENT_KEYS = {"id", "title", "owner_id", "version", "entry_count", "created_at", "updated_at"}
WRITERS = 8


def create(api: TestClient, headers: dict[str, str], title: str = "Log book") -> str:
    response = api.post("/api/v1/documents", json={"title": title}, headers=headers)
    assert response.status_code == 201
    return str(response.json()["id"])


def test_create_append_read(api: TestClient, headers: dict[str, str]) -> None:
    document = api.post("/api/v1/documents", json={"title": "Log book"}, headers=headers).json()
    assert set(document) == DOCUMENT_KEYS
    assert (document["version"], document["entry_count"], document["owner_id"]) == (1, 0, headers["X-Principal-Id"])
    path = f"/api/v1/documents/{document['id']}"
    appended = api.post(f"{path}/entries", json={"content": "Höhe 3 m 🌊"}, headers=headers)
    assert appended.status_code == 201
    assert (appended.json()["position"], appended.json()["version"]) == (1, 2)
    read = api.get(path, headers=headers).json()
    assert set(read) == DOCUMENT_KEYS | {"entries", "next_entry"}
    assert (read["version"], read["entry_count"], read["next_entry"]) == (2, 1, None)
    assert [set(entry) for entry in read["entries"]] == [{"id", "position", "author_id", "content", "created_at"}]
    assert read["entries"][0]["content"] == "Höhe 3 m 🌊"
    assert read["entries"][0]["author_id"] == headers["X-Principal-Id"]


def test_strangers_do_not_learn_that_it_exists(api: TestClient, headers: dict[str, str]) -> None:
    path = f"/api/v1/documents/{create(api, headers)}"
    stranger = {"X-Principal-Id": str(uuid4())}
    answers = [
        api.get(path, headers=stranger),
        api.post(f"{path}/entries", json={"content": "x"}, headers=stranger),
        api.get(f"/api/v1/documents/{uuid4()}", headers=stranger),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    bodies = [answer.json()["error"] | {"request_id": ""} for answer in answers]
    assert bodies[0] == bodies[2]
    assert api.get("/api/v1/documents", headers=stranger).json() == {"items": [], "next_cursor": None}
    assert api.get(path, headers=headers).json()["entry_count"] == 0


def test_what_happened_is_recorded(api: TestClient, headers: dict[str, str], database: psycopg.Connection) -> None:
    document_id = create(api, headers)
    api.post(f"/api/v1/documents/{document_id}/entries", json={"content": "x"}, headers=headers)
    events = database.execute(
        "SELECT stream_version, type, principal_id::text FROM events WHERE stream_id = %s ORDER BY position", (document_id,)
    ).fetchall()
    user = headers["X-Principal-Id"]
    assert events == [(1, "document.created", user), (2, "document.entry_appended", user)]


def test_a_stale_writer_is_told_both_versions(api: TestClient, headers: dict[str, str]) -> None:
    path = f"/api/v1/documents/{create(api, headers)}/entries"
    assert api.post(path, json={"content": "a", "expected_version": 1}, headers=headers).status_code == 201
    late = api.post(path, json={"content": "b", "expected_version": 1}, headers=headers)
    assert late.status_code == 409
    assert late.json()["error"]["code"] == "conflict"
    assert late.json()["error"]["details"] == {"expected_version": 1, "actual_version": 2}


@pytest.mark.parametrize("version", [0, -1, 2**31, 1.0, "1", True])
def test_versions_are_whole_positive_numbers(api: TestClient, headers: dict[str, str], version: object) -> None:
    path = f"/api/v1/documents/{create(api, headers)}/entries"
    assert api.post(path, json={"content": "a", "expected_version": version}, headers=headers).status_code == 422


def test_of_parallel_writers_with_one_version_one_wins(api: TestClient, headers: dict[str, str]) -> None:
    path = f"/api/v1/documents/{create(api, headers)}"

    def append(number: int) -> int:
        body = {"content": f"from {number}", "expected_version": 1}
        return api.post(f"{path}/entries", json=body, headers=headers).status_code

    with ThreadPoolExecutor(WRITERS) as threads:
        statuses = sorted(threads.map(append, range(WRITERS)))
    assert statuses == [201] + [409] * (WRITERS - 1)
    assert api.get(path, headers=headers).json()["entry_count"] == 1


def test_parallel_writers_without_a_version_all_append(api: TestClient, headers: dict[str, str]) -> None:
    path = f"/api/v1/documents/{create(api, headers)}"

    def append(number: int) -> int:
        return api.post(f"{path}/entries", json={"content": str(number)}, headers=headers).status_code

    with ThreadPoolExecutor(WRITERS) as threads:
        assert list(threads.map(append, range(3 * WRITERS))) == [201] * 3 * WRITERS
    read = api.get(path, headers=headers).json()
    assert [entry["position"] for entry in read["entries"]] == list(range(1, 3 * WRITERS + 1))
    assert {entry["content"] for entry in read["entries"]} == {str(number) for number in range(3 * WRITERS)}


def test_listing_pages_over_everything_once(api: TestClient, headers: dict[str, str]) -> None:
    created = [create(api, headers, f"Number {number}") for number in range(25)]
    listed, cursor, sizes = [], None, []
    while True:
        parameters = {"limit": "10"} | ({"cursor": cursor} if cursor else {})
        page = api.get("/api/v1/documents", params=parameters, headers=headers).json()
        listed += [item["id"] for item in page["items"]]
        sizes.append(len(page["items"]))
        cursor = page["next_cursor"]
        if cursor is None:
            break
        create(api, {"X-Principal-Id": str(uuid4())})
    assert sizes == [10, 10, 5]
    assert listed == created[::-1]


def test_a_full_last_page_has_no_cursor(api: TestClient, headers: dict[str, str]) -> None:
    for _ in range(2):
        create(api, headers)
    assert api.get("/api/v1/documents?limit=2", headers=headers).json()["next_cursor"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=MjAyNg==", "cursor=MjAyNi0wMS0wMXxh"])
def test_bad_pages_are_refused(api: TestClient, headers: dict[str, str], query: str) -> None:
    assert api.get(f"/api/v1/documents?{query}", headers=headers).status_code == 422


def test_entries_come_in_pages(api: TestClient, headers: dict[str, str]) -> None:
    path = f"/api/v1/documents/{create(api, headers)}"
    for number in range(5):
        api.post(f"{path}/entries", json={"content": str(number)}, headers=headers)
    first = api.get(f"{path}?limit=3", headers=headers).json()
    second = api.get(f"{path}?limit=3&after={first['next_entry']}", headers=headers).json()
    assert [entry["content"] for entry in first["entries"] + second["entries"]] == ["0", "1", "2", "3", "4"]
    assert (first["next_entry"], second["next_entry"]) == (3, None)


def test_a_page_has_a_hundred_entries_unless_asked(api: TestClient, headers: dict[str, str]) -> None:
    path = f"/api/v1/documents/{create(api, headers)}"
    for number in range(101):
        api.post(f"{path}/entries", json={"content": str(number)}, headers=headers)
    first = api.get(path, headers=headers).json()
    assert (len(first["entries"]), first["next_entry"]) == (100, 100)
    assert api.get(f"{path}?limit=1000", headers=headers).json()["next_entry"] is None


def test_a_page_is_bounded_in_bytes(api: TestClient, headers: dict[str, str]) -> None:
    path = f"/api/v1/documents/{create(api, headers)}"
    # Four bytes each, so two of these contents fill 800,000 bytes.
    for _ in range(5):
        api.post(f"{path}/entries", json={"content": "🌊" * 100_000}, headers=headers)
    pages: list[list[int]] = []
    after: int | None = 0
    while after is not None:
        page = api.get(f"{path}?after={after}", headers=headers).json()
        pages.append([entry["position"] for entry in page["entries"]])
        after = page["next_entry"]
    assert pages == [[1, 2], [3, 4], [5]]


def test_a_page_has_at_least_one_entry(api: TestClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_PAGE_BYTES", 1)
    path = f"/api/v1/documents/{create(api, headers)}"
    for content in ("first", "second"):
        api.post(f"{path}/entries", json={"content": content}, headers=headers)
    first = api.get(path, headers=headers).json()
    second = api.get(f"{path}?after={first['next_entry']}", headers=headers).json()
    assert [entry["content"] for entry in first["entries"]] == ["first"]
    assert [entry["content"] for entry in second["entries"]] == ["second"]
    assert (first["next_entry"], second["next_entry"]) == (1, None)


@pytest.mark.parametrize(
    "title",
    ["", " ", "\u00a0\u3000", "\u200b\u2060", "a\x00b", "a\nb", "a\tb", "a\x7f", "a\x85b", "a\u2028b", "a\u202eb", "a\u2066b"],
)
def test_titles_that_cannot_be_shown_are_refused(api: TestClient, headers: dict[str, str], title: str) -> None:
    answer = api.post("/api/v1/documents", json={"title": title}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["loc"] == ["body", "title"]


@pytest.mark.parametrize("title", ["Höhe 3 m 🌊", "👩\u200d🚀", "\u05e9\u200f\u05dc", "\u0645\u06cc\u200c\u062e\u0648", " a "])
def test_titles_of_every_script_are_kept(api: TestClient, headers: dict[str, str], title: str) -> None:
    answer = api.post("/api/v1/documents", json={"title": title}, headers=headers)
    assert (answer.status_code, answer.json()["title"]) == (201, title)


def test_contents_hold_anything_but_nul(api: TestClient, headers: dict[str, str]) -> None:
    path = f"/api/v1/documents/{create(api, headers)}/entries"
    assert api.post(path, json={"content": "a\x00b"}, headers=headers).status_code == 422
    kept = api.post(path, json={"content": "a\n\tb\u202e"}, headers=headers)
    assert (kept.status_code, kept.json()["content"]) == (201, "a\n\tb\u202e")
