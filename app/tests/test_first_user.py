"""The first user is made once, and the password appears nowhere."""

import json
from pathlib import Path
from uuid import uuid4

import psycopg
from starlette.testclient import TestClient

from tests.conftest import run_module
from tests.test_database_role import OWNER
from tests.test_startup_gate import PRODUCTION

MODULE = "seawall_service.users.first_user"
PASSWORD = "only-shown-to-the-operator"


def test_made_once(auth: TestClient, database: psycopg.Connection, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
    environment = {"FIRST_USER_NAME": f"First-{uuid4().hex[:8]}", "FIRST_USER_PASSWORD_FILE": str(secret)}
    runs = [run_module(MODULE, **environment) for _ in range(2)]
    assert [run.returncode for run in runs] == [0, 0], runs
    assert [json.loads(run.stdout.splitlines()[-1]) for run in runs] == [{"changed": True}, {"changed": False}]
    assert all(PASSWORD not in run.stdout + run.stderr for run in runs)
    login = {"username": environment["FIRST_USER_NAME"], "password": PASSWORD}
    assert auth.post("/api/auth/login", json=login).status_code == 200
    found = database.execute(
        "SELECT count(*) FROM events WHERE type = 'user.created' AND payload->>'username' = %s",
        (environment["FIRST_USER_NAME"].lower(),),
    ).fetchone()
    assert found == (1,)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("short", encoding="utf-8")
    run = run_module(MODULE, FIRST_USER_NAME="no spaces", FIRST_USER_PASSWORD_FILE=str(secret))
    assert run.returncode == 78
    assert run.stdout == ""
    refused = [json.loads(line)["variable"] for line in run.stderr.splitlines()]
    assert refused == ["FIRST_USER_NAME", "FIRST_USER_PASSWORD_FILE"]
    assert "short" not in run.stderr


def test_in_production_a_role_with_too_many_rights_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD, encoding="utf-8")
    wrong = OWNER | {"APP_DB_ROLE": "seawall_migrator", "FIRST_USER_NAME": "somebody", "FIRST_USER_PASSWORD_FILE": str(secret)}
    run = run_module(MODULE, **PRODUCTION | wrong)
    assert (run.returncode, run.stdout) == (78, "")
    assert "logged in as seawall_migrator" in run.stderr


def test_a_missing_database_is_one_sentence(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD, encoding="utf-8")
    run = run_module(
        MODULE,
        FIRST_USER_NAME="somebody",
        FIRST_USER_PASSWORD_FILE=str(secret),
        DATABASE_URL="postgresql://seawall_app@127.0.0.1:9/app",
    )
    assert run.returncode == 1
    assert run.stderr.startswith("No connection with DATABASE_URL")
