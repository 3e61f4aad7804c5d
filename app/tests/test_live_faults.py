"""Open sockets while what is behind them fails: they stay, miss nothing, and are counted right afterwards."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from seawall_service.realtime.limits import LEASE_SECONDS
from tests.live_client import connect, watching
from tests.running_server import RunningServer
from tests.tcp_proxy import Proxy
from tests.test_live import PING, append, errors_of, new_document, positions, started

LOOKED_AT_SECONDS = 60.0
PER_USER = 3


@dataclass
class Pair:
    """`here` reaches its database and its cache through lines that fail, `there` does not."""

    here: RunningServer
    there: RunningServer
    database: Proxy
    cache: Proxy

    def until_said(self, event: str, times: int = 1) -> dict[str, Any]:
        deadline = time.monotonic() + LOOKED_AT_SECONDS
        while True:
            said = [line for line in self.here.log_lines if line["event"] == event]
            if len(said) >= times:
                return said[-1]
            assert time.monotonic() < deadline, f"{event} was never said: {self.here.stdout[-3000:]}"
            time.sleep(0.1)


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    limits = {"WS_LIMITS_ENABLED": "true", "WS_MAX_SOCKETS_PER_USER": str(PER_USER)}
    with Proxy("db", 5432) as database, Proxy("cache", 6379) as cache, ExitStack() as stack:
        failing = {
            "DATABASE_URL": f"postgresql://seawall_app@127.0.0.1:{database.port}/app",
            "REDIS_URL": f"redis://seawall@127.0.0.1:{cache.port}/0",
            # All sockets in one worker, so that all of them see what happens.
            "WEB_CONCURRENCY": "1",
        }
        here, there = started(tmp_path_factory, **limits, **failing), started(tmp_path_factory, **limits)
        for server in (here, there):
            stack.callback(server.kill)
            server.until_answering("/readyz", seconds=60)
        yield Pair(here, there, database, cache)


@pytest.mark.requirement("WS-05", "C22", "LOG-01")
@pytest.mark.parametrize("fault", ["refuse", "freeze", "cut"])
def test_valkey_fails_under_an_open_socket(pair: Pair, headers: dict[str, str], fault: str) -> None:
    document = new_document(pair.here, headers)
    with ExitStack() as stack:
        first = stack.enter_context(watching(pair.here, document, headers | {"X-Request-ID": "the-first-socket"}))
        append(pair.there, document, headers)
        assert positions(first.entries(1)) == [1]
        getattr(pair.cache, fault)()
        lost = pair.until_said("live.degraded")
        # Of another container, and so without a word of it.
        append(pair.there, document, headers)
        assert positions(first.entries(1)) == [2]
        append(pair.here, document, headers)
        assert positions(first.entries(1)) == [3]
        # One worker has all of the limit while it cannot ask.
        for _ in range(PER_USER - 1):
            stack.enter_context(watching(pair.here, document, headers))
        pair.cache.heal()
        restored = pair.until_said("live.restored")
        append(pair.there, document, headers)
        assert positions(first.entries(1)) == [4]
        # What has run since the first socket has not kept the request id of that one.
        assert {line.get("request_id") for line in (lost, restored)} == {None}
        if fault != "cut":
            pair.until_said("ws_limits.restored")
        # Counted again for everybody: the other container knows of them.
        one_more = connect(pair.there, f"{document}/live", headers)
        stack.callback(one_more.close)
        assert one_more.receive()["code"] == "ws_limit"
    assert errors_of(pair.here) == []


@pytest.mark.requirement("LOG-01", "C22")
def test_what_outlives_a_request_does_not_keep_its_id(pair: Pair, headers: dict[str, str]) -> None:
    """The work of the whole worker, begun by its first socket; and what an entry gives to do after its answer."""
    document = new_document(pair.here, headers)
    asked, watcher = (headers | {"X-Request-ID": name} for name in ("over", "watcher"))
    with watching(pair.here, document, asked):
        pass
    with watching(pair.here, document, watcher) as live:
        # Of these answers the last one comes when the socket has caught up: from now on it asks nothing by itself.
        for _ in range(3):
            live.connection.send(PING)
            assert live.receive() == {"type": "pong"}
        # Of what is told of an entry, the first query gets through, and not its answer.
        pair.database.cut_after(b"octet_length")
        # Refused where that query came from somebody else, and the line is cut for all.
        deadline = time.monotonic() + LOOKED_AT_SECONDS
        while pair.here.post(f"{document}/entries", {"content": "x"}, asked).status != 201:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        pair.until_said("live.database_away")
        assert positions(live.entries(1)) == [1]
        # A new subscription makes the worker look, whoever asked for the one before.
        away = pair.here.stdout.count("live.database_away")
        pair.database.refuse()
        pair.cache.cut()
        for event, times in (("live.degraded", 1), ("live.restored", 1), ("live.database_away", away + 1)):
            pair.until_said(event, times)
        pair.cache.refuse()
        pair.until_said("ws_limits.degraded")
        pair.database.heal()
        pair.cache.heal()
        pair.until_said("ws_limits.restored")
    said = [line for line in pair.here.log_lines if line["event"].startswith(("live.", "ws_limits."))]
    assert [line for line in said if line.get("request_id") not in {None, "watcher"}] == []


@pytest.mark.requirement("WS-05", "C22")
@pytest.mark.parametrize("fault", ["refuse", "cut"])
def test_postgres_fails_under_an_open_socket(pair: Pair, headers: dict[str, str], fault: str) -> None:
    document = new_document(pair.here, headers)
    with watching(pair.here, document, headers) as live:
        append(pair.there, document, headers)
        assert positions(live.entries(1)) == [1]
        getattr(pair.database, fault)()
        # Each notice arrives, and what it tells of cannot be read.
        for times in (1, 2):
            append(pair.there, document, headers)
            if fault == "refuse":
                pair.until_said("live.database_away", times)
        pair.database.heal()
        # Without a further notice.
        assert positions(live.entries(2)) == [2, 3]
        append(pair.there, document, headers)
        assert positions(live.entries(1)) == [4]
    assert errors_of(pair.here) == []


@pytest.mark.requirement("WS-05", "C20")
def test_a_killed_worker_takes_its_counts_along(pair: Pair, headers: dict[str, str]) -> None:
    document = new_document(pair.here, headers)
    with ExitStack() as stack:
        for _ in range(PER_USER):
            stack.enter_context(watching(pair.here, document, headers))
        refused = connect(pair.there, f"{document}/live", headers)
        stack.callback(refused.close)
        assert refused.receive()["code"] == "ws_limit"
        (worker,) = pair.here.worker_pids()
        os.kill(worker, signal.SIGKILL)
        deadline = time.monotonic() + LEASE_SECONDS + LOOKED_AT_SECONDS
        while True:
            again = connect(pair.there, f"{document}/live", headers)
            stack.callback(again.close)
            if again.receive()["type"] == "ready":
                break
            assert time.monotonic() < deadline
            time.sleep(0.5)
