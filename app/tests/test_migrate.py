"""One run migrates, the others wait; a killed run is finished by the next; what is wrong afterwards is said."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import run_module

MODULE = "seawall_service.migrate"
REVISIONS = ["0001", "0002", "0003", "0004", "0005"]
HEAD = REVISIONS[-1]
LOCK = 7_021_960
TABLES = ["alembic_version", "audit_events", "entries_document", "events", "proj_documents", "proj_memberships", "proj_users",
          "state_idempotency", "state_refresh_tokens", "state_revoked_sessions"]  # fmt: skip


def migrate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_module(MODULE, *arguments, **environment)


def start_migration() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", MODULE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    parsed: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return parsed


def tables(owner: psycopg.Connection) -> list[str]:
    rows = owner.execute("SELECT tablename::text FROM pg_tables WHERE schemaname = 'app' ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def empty(owner: psycopg.Connection) -> None:
    for table in tables(owner):
        owner.execute(psycopg.sql.SQL("DROP TABLE app.{} CASCADE").format(psycopg.sql.Identifier(table)))


@pytest.fixture
def fresh(owner: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A database without a schema; afterwards one with it again."""
    empty(owner)
    yield owner
    result(migrate())


@pytest.mark.requirement("MIG-01")
def test_from_nothing_to_head_and_then_nothing_to_do(fresh: psycopg.Connection) -> None:
    assert result(migrate("--check")) == {"changed": True, "from": None, "to": HEAD, "pending": REVISIONS}
    assert tables(fresh) == []
    assert result(migrate()) == {"changed": True, "from": None, "to": HEAD}
    assert tables(fresh) == TABLES
    assert result(migrate()) == {"changed": False, "from": HEAD, "to": HEAD}
    assert result(migrate("--check")) == {"changed": False, "from": HEAD, "to": HEAD, "pending": []}


@pytest.mark.parametrize(("level", "told"), [("info", 1), ("warning", 0)])
def test_the_log_level_is_honoured(fresh: psycopg.Connection, level: str, told: int) -> None:
    run = migrate(LOG_LEVEL=level)
    assert result(run)["changed"] is True
    assert run.stderr.count("migrating from None") == told
    assert tables(fresh) == TABLES


@pytest.mark.requirement("MIG-01")
def test_of_two_at_once_one_migrates(fresh: psycopg.Connection) -> None:
    runs = [start_migration() for _ in range(2)]
    outputs = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert sorted(json.loads(stdout.splitlines()[-1])["changed"] for stdout, _ in outputs) == [False, True]
    assert tables(fresh) == TABLES


@pytest.mark.parametrize(("table", "reached"), [("events", None), ("proj_users", "0001"), ("proj_documents", "0002")])
def test_a_run_killed_at_any_migration_is_finished_by_the_next(
    fresh: psycopg.Connection, table: str, reached: str | None
) -> None:
    """Stops the run in the middle of a migration by holding what it needs next, then kills it."""
    # Our own version of a table that a migration makes: it waits for our transaction to end.
    with fresh.transaction(force_rollback=True):
        fresh.execute(psycopg.sql.SQL("CREATE TABLE app.{} ()").format(psycopg.sql.Identifier(table)))
        with start_migration() as run:
            wait_for_a_blocked_backend(fresh)
            run.send_signal(signal.SIGKILL)
            run.communicate(timeout=60)
    after = result(migrate())
    assert after["to"] == HEAD
    assert after["from"] == reached
    assert tables(fresh) == TABLES


def upgrade_script(revision: str) -> str:
    """The upgrade alone, to a revision of the test's choice, with its log on stderr."""
    return (
        "import sys; from seawall_service import migrate; from seawall_service.settings import MigrationSettings;"
        "migrate.configure_logging(stream=sys.stderr);"
        f"migrate.upgrade(migrate.Target(MigrationSettings()), {revision!r})"
    )


def run_to(revision: str) -> None:
    subprocess.run([sys.executable, "-c", upgrade_script(revision)], check=True, timeout=60, capture_output=True)


def wait_for_a_blocked_backend(owner: psycopg.Connection) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        row = owner.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
        if row and row[0]:
            return
        time.sleep(0.05)
    raise AssertionError("no migration ever waited")


def test_a_locked_table_is_tried_again(fresh: psycopg.Connection) -> None:
    """The blocker ends after the first lock_timeout: only a retry can succeed."""
    run_to("0001")
    with subprocess.Popen([sys.executable, "-c", upgrade_script(HEAD)], stderr=subprocess.PIPE, text=True) as run:
        with fresh.transaction(force_rollback=True):
            fresh.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
            wait_for_a_blocked_backend(fresh)
            # Longer than the lock_timeout of three seconds.
            time.sleep(5)
            assert run.poll() is None
        _, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stderr
    assert "trying again" in stderr
    assert tables(fresh) == TABLES


def test_who_holds_the_lock_is_named(owner: psycopg.Connection) -> None:
    owner.execute("SELECT pg_advisory_lock_shared(%s)", (LOCK,))
    run = migrate(MIGRATION_LOCK_WAIT_SECONDS="1")
    assert run.returncode == 1
    assert run.stdout == ""
    assert f"pid {owner.info.backend_pid} (seawall_migrator" in run.stderr
    owner.execute("SELECT pg_advisory_unlock_shared(%s)", (LOCK,))
    assert result(migrate())["changed"] is False


def test_a_schema_of_a_newer_release_is_refused(owner: psycopg.Connection) -> None:
    owner.execute("UPDATE alembic_version SET version_num = '9999'")
    try:
        for run in (migrate(), migrate("--check")):
            assert run.returncode == 1
            assert "at revision 9999, which this image does not know" in run.stderr
            assert len(run.stderr.splitlines()) == 1
    finally:
        owner.execute("UPDATE alembic_version SET version_num = %s", (HEAD,))


@pytest.mark.requirement("SEC-06")
def test_drifted_grants_fail_the_migration(owner: psycopg.Connection) -> None:
    owner.execute("GRANT DELETE ON events TO seawall_readonly")
    try:
        for run in (migrate(), migrate("--check")):
            assert run.returncode == 1
            assert "seawall_readonly DELETE" in run.stderr
    finally:
        owner.execute("REVOKE DELETE ON events FROM seawall_readonly")
    assert result(migrate())["changed"] is False


def test_invalid_indexes_fail_the_migration(owner: psycopg.Connection) -> None:
    owner.execute("INSERT INTO proj_users (id, username, password_hash) VALUES (gen_random_uuid(), 'i1', ''), "
                  "(gen_random_uuid(), 'i2', '')")  # fmt: skip
    with pytest.raises(psycopg.errors.UniqueViolation):
        owner.execute("CREATE UNIQUE INDEX CONCURRENTLY doomed ON proj_users (password_hash) WHERE username IN ('i1', 'i2')")
    try:
        for run in (migrate(), migrate("--check")):
            assert run.returncode == 1
            assert "Invalid indexes: doomed" in run.stderr
    finally:
        owner.execute("DROP INDEX doomed")
        owner.execute("DELETE FROM proj_users WHERE username IN ('i1', 'i2')")


def test_a_missing_database_is_one_sentence() -> None:
    run = migrate(MIGRATION_DATABASE_URL="postgresql://seawall_migrator@127.0.0.1:9/app", MIGRATION_CONNECT_WAIT_SECONDS="1")
    assert run.returncode == 1
    assert run.stderr.startswith("No connection with MIGRATION_DATABASE_URL")


def test_bad_settings_are_refused() -> None:
    run = migrate(MIGRATION_DATABASE_URL="", MIGRATION_DATABASE_PASSWORD_FILE="/nowhere")
    assert run.returncode == 78
    refused = [json.loads(line)["variable"] for line in run.stderr.splitlines()]
    assert refused == ["MIGRATION_DATABASE_URL", "MIGRATION_DATABASE_PASSWORD_FILE"]
    assert os.environ["MIGRATION_DATABASE_PASSWORD_FILE"] not in run.stderr


@pytest.mark.parametrize("url", ["postgresql://seawall_migrator:p@db/app", "postgresql://seawall_migrator@db/app?password=p"])
def test_in_production_a_url_holds_no_password(url: str) -> None:
    run = migrate(APP_ENV="production", MIGRATION_DATABASE_URL=url)
    assert (run.returncode, run.stdout) == (78, "")
    refusal = json.loads(run.stderr)
    assert refusal["variable"] == "MIGRATION_DATABASE_URL"
    assert "MIGRATION_DATABASE_PASSWORD_FILE" in refusal["cure"]


def test_the_application_role_cannot_migrate(fresh: psycopg.Connection) -> None:
    run = migrate(
        MIGRATION_DATABASE_URL=os.environ["DATABASE_URL"],
        MIGRATION_DATABASE_PASSWORD_FILE=os.environ["DATABASE_PASSWORD_FILE"],
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("The migration failed and its transaction was undone: ")
    assert "permission denied" in run.stderr
    assert tables(fresh) == []


@pytest.mark.parametrize(("arguments", "what"), [((), "migration"), (("--check",), "check")])
def test_nothing_was_undone_where_nothing_was_done(owner: psycopg.Connection, arguments: tuple[str, ...], what: str) -> None:
    owner.execute("ALTER TABLE alembic_version RENAME COLUMN version_num TO other")
    try:
        run = migrate(*arguments)
    finally:
        owner.execute("ALTER TABLE alembic_version RENAME COLUMN other TO version_num")
    assert run.returncode == 1
    assert run.stderr.startswith(f"The {what} failed: column ")
    assert result(migrate())["changed"] is False
