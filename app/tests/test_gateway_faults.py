"""The auth gateway with a database and a cache that fail in real ways: whom it cannot judge it neither lets in nor sends away.

The edge passes its 503 on, so a client that is told to come back must find its session as it was.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.conftest import PASSWORD
from tests.conftest import connect as connect_to_database
from tests.running_server import Answer
from tests.test_faults import (
    FAULT_SECONDS,
    PAUSE_SECONDS,
    RECOVERY_SECONDS,
    SEED,
    Service,
    behind_lines_that_fail,
    frozen,
    is_refusal,
    out_of_connections,
    refused,
    terminate,
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with behind_lines_that_fail(tmp_path_factory.mktemp("gateway-faults"), "auth_asgi") as running:
        yield running


def login(gateway: Service, username: str) -> Answer:
    return gateway.server.post("/api/auth/login", {"username": username, "password": PASSWORD})


def refresh(gateway: Service, tokens: dict[str, str]) -> Answer:
    return gateway.server.post("/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})


def logout(gateway: Service, tokens: dict[str, str]) -> Answer:
    return gateway.server.post("/api/auth/logout", {"refresh_token": tokens["refresh_token"]})


def verify(gateway: Service, token: str) -> Answer:
    return gateway.server.get("/internal/verify", {"Authorization": f"Bearer {token}"})


def until_it_is_done(ask: Callable[[], Answer], status: int) -> Answer:
    """As a client does that is told to come back; any other answer is wrong."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        answer = ask()
        if answer.status == status:
            return answer
        assert is_refusal(answer), (answer.status, answer.body)
        assert time.monotonic() < deadline
        time.sleep(PAUSE_SECONDS)


def until_known(gateway: Service, token: str) -> str | None:
    return until_it_is_done(lambda: verify(gateway, token), 204).headers["X-Principal-Id"]


@pytest.mark.requirement("ERR-01", "HLT-01", "HLT-02")
@pytest.mark.parametrize("fault", [refused, frozen, out_of_connections])
def test_without_a_database_nobody_is_judged_and_no_session_is_lost(
    gateway: Service, username: str, user_id: str, fault: Callable[[Service], AbstractContextManager[None]]
) -> None:
    gateway.until_ready()
    tokens, other = (until_it_is_done(lambda: login(gateway, username), 200).json() for _ in range(2))
    with fault(gateway):
        ended = time.monotonic() + FAULT_SECONDS
        while time.monotonic() < ended or gateway.ready_status() != 503:
            assert gateway.server.get("/healthz").status == 200
            assert time.monotonic() < ended + RECOVERY_SECONDS
        answers = [
            verify(gateway, tokens["access_token"]),
            login(gateway, username),
            refresh(gateway, tokens),
            logout(gateway, other),
        ]
        assert [(answer.status, answer.body) for answer in answers if not is_refusal(answer)] == []
        # For this one nothing needs to be asked.
        assert verify(gateway, "forged").status == 401
    gateway.until_ready()
    assert until_known(gateway, tokens["access_token"]) == user_id
    # What was refused has not happened: the token is still good for its one use, and the other session has not ended.
    until_it_is_done(lambda: refresh(gateway, tokens), 200)
    until_it_is_done(lambda: refresh(gateway, other), 200)


@pytest.mark.requirement("ERR-01", "HLT-02")
def test_sessions_outlive_a_database_that_is_restarted_again_and_again(gateway: Service, username: str, user_id: str) -> None:
    gateway.until_ready()
    chance = random.Random(SEED)
    given: list[str] = []
    with connect_to_database("DATABASE_URL", "DATABASE_PASSWORD_FILE") as killer:
        for number in range(8):
            given.append(until_it_is_done(lambda: login(gateway, username), 200).json()["access_token"])
            if number % 2:
                gateway.database.cut()
            else:
                terminate(killer)
            assert until_known(gateway, chance.choice(given)) == user_id
    assert [until_known(gateway, token) for token in given] == [user_id] * len(given)


@pytest.mark.requirement("HLT-02", "RL-11")
@pytest.mark.parametrize("fault", ["refuse", "freeze", "cut"])
def test_without_a_cache_everything_goes_on(gateway: Service, username: str, fault: str) -> None:
    gateway.until_ready()
    getattr(gateway.cache, fault)()
    for _ in range(3):
        signed_in = login(gateway, username)
        assert signed_in.status == 200
        assert verify(gateway, signed_in.json()["access_token"]).status == 204
        assert refresh(gateway, signed_in.json()).status == 200
        assert gateway.ready_status() == 200
    gateway.cache.heal()
