"""The installation while its database or its cache is away: what a user sees through the edge, over TLS."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from installation import Answer, ask, containers, docker, query, running

WRITERS = 2
PAUSE_SECONDS = 0.2
AWAY_SECONDS = 5
RECOVERY_SECONDS = 60


@dataclass
class Seen:
    """What the writers were answered, and which entries the service acknowledged: content -> id."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[Answer] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)


def is_refusal(answer: Answer) -> bool:
    if answer.status != 503 or int(answer.headers.get("retry-after", "0")) < 1:
        return False
    error = answer.body["error"]
    return bool(error["code"] == "service_unavailable" and error["request_id"] == answer.headers["x-request-id"])


@contextmanager
def writers(document: str, session: dict[str, str]) -> Iterator[Seen]:
    """Append entries all the time, each again and again with its key until it is acknowledged."""
    seen = Seen()
    ending = threading.Event()

    def append(content: str) -> None:
        headers = session | {"Idempotency-Key": f"{document}-{content}"}
        deadline = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < deadline:
            answer = ask(f"/api/v1/documents/{document}/entries", "POST", {"content": content}, headers)
            seen.statuses[answer.status] += 1
            if answer.status == 201:
                seen.acknowledged[content] = answer.body["id"]
                return
            if not is_refusal(answer):
                seen.wrong.append(answer)
            time.sleep(PAUSE_SECONDS)

    def write(number: int) -> None:
        count = 0
        while not ending.wait(PAUSE_SECONDS):
            count += 1
            append(f"{number}-{count}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ending.set()
        for thread in threads:
            thread.join(2 * RECOVERY_SECONDS)


@contextmanager
def away(name: str, *how: str) -> Iterator[None]:
    container = containers()[name]["Id"]
    docker(*how, container)
    try:
        yield
    finally:
        docker("start", container)
        end = time.monotonic() + RECOVERY_SECONDS
        while docker("inspect", "--format", "{{.State.Health.Status}}", container) != "healthy":
            assert time.monotonic() < end, f"{name} does not get healthy again"
            time.sleep(0.5)


def nothing_is_lost_or_written_twice(document: str, seen: Seen) -> None:
    assert seen.wrong == []
    assert seen.acknowledged
    rows = query("SELECT document_id || ' ' || content || ' ' || id FROM app.entries_document").split("\n")
    stored = [row.removeprefix(f"{document} ") for row in rows if row.startswith(f"{document} ")]
    assert sorted(stored) == sorted(f"{content} {entry}" for content, entry in seen.acknowledged.items())


@pytest.mark.requirement("ERR-01", "HLT-01", "HLT-03", "DB-05")
@pytest.mark.parametrize("how", [("stop",), ("kill",)], ids=["stopped", "killed"])
def test_without_the_database(session: dict[str, str], document: str, how: tuple[str, ...]) -> None:
    service = {name: state for name, state in running().items() if name.startswith(("api", "auth"))}
    with writers(document, session) as seen:
        time.sleep(2 * PAUSE_SECONDS)
        with away("postgres", *how):
            ended = time.monotonic() + AWAY_SECONDS
            while time.monotonic() < ended:
                assert ask("/healthz").status == 200
                assert ask("/").status == 200
                refused = ask("/api/v1/documents", headers=session)
                assert is_refusal(refused), refused
        before = len(seen.acknowledged)
        end = time.monotonic() + RECOVERY_SECONDS
        while len(seen.acknowledged) < before + WRITERS:
            assert time.monotonic() < end, seen.statuses
            time.sleep(PAUSE_SECONDS)
    assert seen.statuses[503]
    nothing_is_lost_or_written_twice(document, seen)
    # By itself: nobody restarted the service.
    assert {name: state for name, state in running().items() if name.startswith(("api", "auth"))} == service


@pytest.mark.requirement("RL-11", "CACHE-03", "HLT-02")
def test_without_the_cache(session: dict[str, str], document: str) -> None:
    with writers(document, session) as seen:
        with away("cache", "stop"):
            ended = time.monotonic() + AWAY_SECONDS
            while time.monotonic() < ended:
                assert ask("/healthz").status == 200
                assert ask("/api/v1/documents", headers=session).status == 200
                time.sleep(PAUSE_SECONDS)
        time.sleep(2 * PAUSE_SECONDS)
    assert set(seen.statuses) == {201}
    nothing_is_lost_or_written_twice(document, seen)
