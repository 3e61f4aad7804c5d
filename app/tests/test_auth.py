"""Signing in, refreshing, and what the edge is told."""

import asyncio
import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest
from psycopg.rows import dict_row
from starlette.testclient import TestClient

from seawall_service.auth.service import rotate
from seawall_service.db.pool import connection_arguments
from seawall_service.main import create_auth_app
from seawall_service.security.passwords import Passwords
from seawall_service.startup_gate import load_settings
from tests.conftest import PASSWORD, client_of


def login(auth: TestClient, username: str, password: str = PASSWORD) -> dict[str, str]:
    response = auth.post("/api/auth/login", json={"username": username, "password": password})
    assert response.status_code == 200, response.text
    tokens: dict[str, str] = response.json()
    return tokens


def refresh(auth: TestClient, token: str) -> tuple[int, dict[str, str]]:
    response = auth.post("/api/auth/refresh", json={"refresh_token": token})
    return response.status_code, response.json()


def verify(auth: TestClient, token: str) -> tuple[int, str | None, bytes]:
    response = auth.get("/internal/verify", headers={"Authorization": f"Bearer {token}"})
    return response.status_code, response.headers.get("X-Principal-Id"), response.content


def test_login_leads_to_the_user(auth: TestClient, api: TestClient, username: str) -> None:
    tokens = login(auth, username)
    assert set(tokens) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert tokens["token_type"] == "bearer"
    status, principal, content = verify(auth, tokens["access_token"])
    assert (status, content) == (204, b"")
    assert principal is not None
    me = api.get("/api/v1/users/me", headers={"X-Principal-Id": principal}).json()
    assert (me["username"], set(me)) == (username, {"id", "username", "created_at"})


def test_user_names_ignore_case(auth: TestClient, username: str) -> None:
    assert login(auth, username.upper())


@pytest.mark.parametrize("password", ["wrong", PASSWORD + " ", PASSWORD.upper()])
def test_wrong_passwords_and_unknown_users_look_the_same(auth: TestClient, username: str, password: str) -> None:
    answers = [
        auth.post("/api/auth/login", json={"username": name, "password": password}, headers={"X-Request-ID": "same"})
        for name in (username, f"nobody-{uuid4().hex}")
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content
    assert answers[0].json()["error"]["code"] == "unauthorized"


def test_unknown_users_take_as_long_as_known_ones(auth: TestClient, username: str) -> None:
    """By the processor's time, of all threads: the clock also counts what else the machine does."""

    def seconds(name: str) -> float:
        started = time.process_time()
        auth.post("/api/auth/login", json={"username": name, "password": "wrong"})
        return time.process_time() - started

    pairs = [(seconds(username), seconds("nobody")) for _ in range(7)]
    known, unknown = (min(times) for times in zip(*pairs, strict=True))
    assert 0.5 < unknown / known < 2


def test_disabled_users_can_neither_log_in_nor_refresh(auth: TestClient, username: str, database: psycopg.Connection) -> None:
    token = login(auth, username)["refresh_token"]
    database.execute("UPDATE proj_users SET disabled_at = now() WHERE username = %s", (username,))
    assert auth.post("/api/auth/login", json={"username": username, "password": PASSWORD}).status_code == 401
    assert refresh(auth, token)[0] == 401


def test_refresh_rotates(auth: TestClient, username: str) -> None:
    first = login(auth, username)
    status, second = refresh(auth, first["refresh_token"])
    assert status == 200
    assert second["refresh_token"] != first["refresh_token"]
    assert verify(auth, second["access_token"])[0] == 204
    assert refresh(auth, second["refresh_token"])[0] == 200


def test_reuse_revokes_the_whole_family_and_no_other(auth: TestClient, username: str) -> None:
    stolen, other = login(auth, username), login(auth, username)
    _, current = refresh(auth, stolen["refresh_token"])
    assert refresh(auth, stolen["refresh_token"])[0] == 401
    assert refresh(auth, current["refresh_token"])[0] == 401
    assert refresh(auth, other["refresh_token"])[0] == 200


def test_of_parallel_refreshes_at_most_one_wins(auth: TestClient, username: str) -> None:
    token = login(auth, username)["refresh_token"]
    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(lambda _: refresh(auth, token), range(6)))
    assert sorted(status for status, _ in results) == [200] + [401] * 5
    winner = next(body for status, body in results if status == 200)
    assert refresh(auth, winner["refresh_token"])[0] == 401


def test_a_revocation_also_meets_the_token_that_is_just_being_issued(auth: TestClient, username: str) -> None:
    stolen = login(auth, username)["refresh_token"]
    _, thief = refresh(auth, stolen)
    survivor = asyncio.run(rotate_while_reused(thief["refresh_token"], stolen))
    assert refresh(auth, survivor)[0] == 401


async def rotate_while_reused(current: str, used: str) -> str:
    """Two transactions at once: the one issues the next token, the other revokes the family meanwhile."""
    arguments = connection_arguments(load_settings("command")) | {"row_factory": dict_row}
    async with (
        await psycopg.AsyncConnection.connect(**arguments) as first,
        await psycopg.AsyncConnection.connect(**arguments) as second,
    ):
        async with first.transaction():
            session = await rotate(first, current, 60)
            revocation = asyncio.create_task(rotate(second, used, 60))
            await asyncio.sleep(0.3)
        assert await revocation is None
    assert session is not None
    return session.refresh_token


def test_expired_and_invented_refresh_tokens(auth: TestClient, username: str, database: psycopg.Connection) -> None:
    token = login(auth, username)["refresh_token"]
    database.execute(
        "UPDATE state_refresh_tokens SET expires_at = now() - interval '1 s'"
        " WHERE user_id = (SELECT id FROM proj_users WHERE username = %s)",
        (username,),
    )
    assert refresh(auth, token)[0] == 401
    assert refresh(auth, "invented")[0] == 401


def test_a_refresh_token_lasts_as_long_as_the_settings_say(
    auth: TestClient, username: str, user_id: str, database: psycopg.Connection
) -> None:
    login(auth, username)
    seconds = "SELECT extract(epoch FROM expires_at - now()) FROM state_refresh_tokens WHERE user_id = %s"
    ((left,),) = database.execute(seconds.encode(), (user_id,)).fetchall()
    lasts = load_settings("auth").refresh_token_ttl_seconds
    assert lasts - 60 < left <= lasts


def test_of_too_many_sign_ins_at_once_some_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is looked at, sixteen wait for it, and whoever comes then is told to come back."""
    looked_at = Event()

    def look(*_: object) -> bool:
        return not looked_at.wait(60)

    def sign_in(number: int) -> tuple[int, str | None]:
        answer = client.post("/api/auth/login", json={"username": f"nobody-{number}", "password": "wrong"})
        if answer.status_code == 503:
            looked_at.set()
        return answer.status_code, answer.headers.get("Retry-After")

    monkeypatch.setenv("PASSWORD_HASH_CONCURRENCY", "1")
    monkeypatch.setattr(Passwords, "_verify", look)
    with client_of(create_auth_app(load_settings("auth"))) as client, ThreadPoolExecutor(40) as threads:
        seen = [threads.submit(sign_in, number) for number in range(40)]
        try:
            answers = {each.result(50) for each in seen}
        finally:
            looked_at.set()
    assert answers == {(401, None), (503, "1")}


def test_a_password_is_kept_as_owasp_advises(user_id: str, database: psycopg.Connection) -> None:
    """Argon2id with 19 MiB and two passes is the least that its cheat sheet names."""
    ((kept,),) = database.execute("SELECT password_hash FROM proj_users WHERE id = %s", (user_id,)).fetchall()
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_a_refresh_removes_what_has_expired(auth: TestClient, username: str, user_id: str, database: psycopg.Connection) -> None:
    """Who refreshes and never signs in again would fill the table."""
    current = login(auth, username)
    database.execute(
        "INSERT INTO state_refresh_tokens (token_digest, family_id, user_id, expires_at)"
        " SELECT decode(md5(random()::text), 'hex'), gen_random_uuid(), %s, '-infinity' FROM generate_series(1, 50)",
        (user_id,),
    )
    for _ in range(3):
        status, current = refresh(auth, current["refresh_token"])
        assert status == 200
    left = database.execute(
        "SELECT count(*) FROM state_refresh_tokens WHERE expires_at <= now() AND user_id = %s", (user_id,)
    ).fetchone()
    assert left == (0,)


def test_the_database_never_sees_a_token(auth: TestClient, username: str, database: psycopg.Connection) -> None:
    token = login(auth, username)["refresh_token"]
    rows = database.execute("SELECT t::text || encode(token_digest, 'escape') FROM state_refresh_tokens t").fetchall()
    assert rows
    assert all(token not in row[0] for row in rows)


def claims_of(user_id: str) -> dict[str, object]:
    now = int(time.time())
    return {"sub": user_id, "iat": now, "exp": now + 60, "iss": "seawall", "jti": "1"}


def forged(user_id: str, changes: dict[str, object] | None = None, key: str | None = None, algorithm: str = "HS256") -> str:
    secret = load_settings("auth").jwt_secret
    assert secret is not None
    claims = {name: value for name, value in (claims_of(user_id) | (changes or {})).items() if value is not None}
    return jwt.encode(claims, key or secret.get_secret_value(), algorithm=algorithm)


def unsigned(user_id: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims_of(user_id))}."


def test_our_own_forgery_passes_when_nothing_is_wrong_with_it(auth: TestClient, user_id: str) -> None:
    """Also without `sid`: such tokens were issued before there was a sign-out, and must not end at an update."""
    assert verify(auth, forged(user_id)) == (204, user_id, b"")


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"iss": "other"},
        {"sub": "root"},
        {"sub": str(uuid4())},
        {"sub": None},
        {"exp": None},
        {"jti": None},
        {"iat": 99_999_999_999},
        {"sid": "no uuid"},
        {"sid": 7},
    ],
)
def test_bad_claims_are_refused(auth: TestClient, user_id: str, changes: dict[str, object]) -> None:
    assert verify(auth, forged(user_id, changes))[:2] == (401, None)


@pytest.mark.requirement("SEC-11")
def test_bad_signatures_are_refused(auth: TestClient, user_id: str) -> None:
    good = forged(user_id)
    other_key, other_algorithm = forged(user_id, key="x" * 40), forged(user_id, algorithm="HS512")
    for token in (other_key, other_algorithm, unsigned(user_id), "", "a.b.c", good[:-2]):
        assert verify(auth, token)[:2] == (401, None)


def test_verify_wants_exactly_one_bearer(auth: TestClient, user_id: str) -> None:
    good = f"Bearer {forged(user_id)}"
    for headers in ([], [("Authorization", "Basic YTpi")], [("Authorization", good), ("Authorization", good)]):
        response = auth.get("/internal/verify", headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"


def logout(auth: TestClient, token: str) -> tuple[int, bytes]:
    response = auth.post("/api/auth/logout", json={"refresh_token": token})
    return response.status_code, response.content


def test_sign_out_ends_the_session_and_no_other(auth: TestClient, username: str) -> None:
    mine, other = login(auth, username), login(auth, username)
    _, renewed = refresh(auth, mine["refresh_token"])
    # Even with the token that was used before: it is of the same session.
    assert logout(auth, mine["refresh_token"]) == (204, b"")
    for tokens in (mine, renewed):
        assert verify(auth, tokens["access_token"])[:2] == (401, None)
    assert refresh(auth, renewed["refresh_token"])[0] == 401
    assert verify(auth, other["access_token"])[0] == 204
    assert refresh(auth, other["refresh_token"])[0] == 200


def test_sign_out_twice_or_with_an_invented_token_says_the_same(auth: TestClient, username: str) -> None:
    token = login(auth, username)["refresh_token"]
    assert [logout(auth, sent) for sent in (token, token, "invented")] == [(204, b"")] * 3


def test_a_stolen_refresh_token_takes_the_access_tokens_with_it(auth: TestClient, username: str) -> None:
    stolen = login(auth, username)
    _, thief = refresh(auth, stolen["refresh_token"])
    assert verify(auth, thief["access_token"])[0] == 204
    assert refresh(auth, stolen["refresh_token"])[0] == 401
    assert verify(auth, thief["access_token"])[0] == 401


def test_disabled_users_are_refused_at_the_next_request(auth: TestClient, username: str, database: psycopg.Connection) -> None:
    token = login(auth, username)["access_token"]
    assert verify(auth, token)[0] == 204
    database.execute("UPDATE proj_users SET disabled_at = now() WHERE username = %s", (username,))
    assert verify(auth, token)[:2] == (401, None)


def test_revocations_are_forgotten_when_no_token_can_be_left(
    auth: TestClient, username: str, database: psycopg.Connection
) -> None:
    token = login(auth, username)
    logout(auth, token["refresh_token"])
    session = jwt.decode(token["access_token"], options={"verify_signature": False})["sid"]
    query = "SELECT expires_at - now() > interval '23 hours' FROM state_revoked_sessions WHERE session_id = %s"
    assert database.execute(query, (session,)).fetchall() == [(True,)]
    database.execute("UPDATE state_revoked_sessions SET expires_at = now() WHERE session_id = %s", (session,))
    logout(auth, login(auth, username)["refresh_token"])
    assert database.execute(query, (session,)).fetchall() == []


def test_access_tokens_are_short_lived(auth: TestClient, username: str) -> None:
    claims = jwt.decode(login(auth, username)["access_token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 900
    assert UUID(claims["sub"])
