"""`python -m seawall_service.migrate [--check]`: brings the schema to the revision this image was built for.

The last line on stdout is {"changed", "from", "to"}, with --check also "pending"; everything else goes to stderr.
One run at a time migrates, each migration commits by itself, and the result is asked of the database before it is
reported.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util.exc import CommandError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from seawall_service.db.revision import expected_revision
from seawall_service.errors import SeawallError, first_line
from seawall_service.logging import configure_logging
from seawall_service.settings import MigrationSettings
from seawall_service.startup_gate import StartupRefused, exit_refused, load_migration_settings

log = logging.getLogger("seawall_service.migrate")

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
SCHEMA_LOCK = 7_021_960  # shared by backups, which hold it in share mode
LOCK_POLL_SECONDS = 0.5
LOCK_TIMEOUT = "3s"
LOCK_ATTEMPTS = 6  # the first one and five retries
RETRY_SECONDS = 1.0
JITTER = SystemRandom()
CONNECT_POLL_SECONDS = 0.5
CONNECT_TIMEOUT_SECONDS = 5
EXIT_FAILED = 1


class MigrationFailed(SeawallError):
    """The schema is not where this image needs it; the message says why and what to do."""


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def single_head() -> str:
    heads = ScriptDirectory.from_config(alembic_config()).get_heads()
    if len(heads) != 1:
        raise MigrationFailed(f"migrations/ has {len(heads)} heads ({', '.join(heads)}): merge them into one.")
    return heads[0]


class Target:
    """The database to migrate, reachable as often as needed."""

    def __init__(self, settings: MigrationSettings) -> None:
        self._settings = settings
        self.lock_wait_seconds = settings.lock_wait_seconds

    def connect(self, purpose: str, *, autocommit: bool) -> psycopg.Connection:
        secret = self._settings.database_password
        return psycopg.connect(
            self._settings.database_url,
            password=secret.get_secret_value() if secret else None,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name=f"seawall-migrate-{purpose}",
            autocommit=autocommit,
            options=f"-c lock_timeout={LOCK_TIMEOUT}",
        )

    def connect_patiently(self, purpose: str, *, autocommit: bool = True) -> psycopg.Connection:
        """The database may be starting, or this role's few connections may be taken for a moment."""
        deadline = time.monotonic() + self._settings.connect_wait_seconds
        while True:
            try:
                return self.connect(purpose, autocommit=autocommit)
            except psycopg.OperationalError as error:
                if time.monotonic() >= deadline:
                    raise MigrationFailed(f"No connection with MIGRATION_DATABASE_URL: {first_line(error)}") from error
                time.sleep(CONNECT_POLL_SECONDS)

    @contextmanager
    def engine_connection(self) -> Iterator[sqlalchemy.Connection]:
        engine = sqlalchemy.create_engine(
            "postgresql+psycopg://",
            creator=lambda: self.connect_patiently("schema", autocommit=False),
            poolclass=NullPool,
        )
        with engine.connect() as connection:
            yield connection


def current_revision(connection: psycopg.Connection) -> str | None:
    try:
        rows = connection.execute("SELECT version_num FROM app.alembic_version").fetchall()
    except psycopg.errors.UndefinedTable:
        return None
    if len(rows) > 1:
        found = ", ".join(row[0] for row in rows)
        raise MigrationFailed(f"alembic_version holds {len(rows)} revisions ({found}): repair it by hand.")
    return rows[0][0] if rows else None


def pending_revisions(current: str | None, head: str) -> list[str]:
    script = ScriptDirectory.from_config(alembic_config())
    try:
        return [step.revision for step in script.iterate_revisions(head, current or "base")][::-1]
    except (CommandError, RevisionError) as error:
        raise MigrationFailed(
            f"The database is at revision {current}, which this image does not know: a newer release migrated it. "
            f"Deploy that release or a later one."
        ) from error


@contextmanager
def schema_lock(target: Target) -> Iterator[psycopg.Connection]:
    """Held by a session of its own: the server releases it even if this process is killed.

    Whoever waits holds no connection meanwhile, since the role has only a few.
    """
    deadline = time.monotonic() + target.lock_wait_seconds
    while True:
        with target.connect_patiently("lock") as connection:
            if holds_lock(connection):
                yield connection
                return
            holders = lock_holders(connection)
        if time.monotonic() >= deadline:
            raise MigrationFailed(
                f"The schema lock was not free within {target.lock_wait_seconds:g} s; it is held by {holders}. "
                "Wait for that migration or backup to end, or end it."
            )
        time.sleep(LOCK_POLL_SECONDS)


def holds_lock(connection: psycopg.Connection) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (SCHEMA_LOCK,)).fetchone()
    return bool(row and row[0])


def lock_holders(connection: psycopg.Connection) -> str:
    rows = connection.execute(
        """
        SELECT l.pid, coalesce(a.usename, 'unknown role'), coalesce(a.application_name, '')
          FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = 0 AND l.objid = %s
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        (SCHEMA_LOCK,),
    ).fetchall()
    return ", ".join(f"pid {pid} ({role} {name})" for pid, role, name in rows) or "nobody any more"


def upgrade(target: Target, head: str) -> None:
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            with target.engine_connection() as connection:
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, head)
        except DBAPIError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise MigrationFailed(f"The migration failed and its transaction was undone: {first_line(error)}") from error
            if attempt == LOCK_ATTEMPTS:
                raise MigrationFailed(
                    f"A table stayed locked for {LOCK_ATTEMPTS} attempts of {LOCK_TIMEOUT}: {first_line(error.orig)}. "
                    "Find the long transaction in pg_stat_activity, end it, and run this again."
                ) from error
            pause = RETRY_SECONDS * attempt * JITTER.uniform(0.5, 1.5)
            log.warning("a table is locked, trying again in %.1f s (attempt %d)", pause, attempt)
            time.sleep(pause)
        else:
            return


def assert_sound(connection: psycopg.Connection, head: str) -> None:
    """What a finished migration promises, asked of the database."""
    current = current_revision(connection)
    if current != head:
        raise MigrationFailed(f"The schema is at revision {current} after migrating to {head}.")
    drift = connection.execute("SELECT concat_ws(' ', what, object, grantee, privilege) FROM seawall.grant_drift").fetchall()
    if drift:
        raise MigrationFailed(
            f"Grants differ from the rules of schema seawall: {'; '.join(row[0] for row in drift)}. "
            "Run ./seawall deploy, which reconciles them."
        )
    invalid = connection.execute("""
        SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE c.relnamespace = 'app'::regnamespace AND NOT (i.indisvalid AND i.indisready)
    """).fetchall()
    if invalid:
        raise MigrationFailed(f"Invalid indexes: {', '.join(row[0] for row in invalid)}. Drop and build them again.")


def check(target: Target, head: str) -> dict[str, Any]:
    with target.connect_patiently("check") as connection:
        current = current_revision(connection)
        pending = pending_revisions(current, head)
        # A run before may have got to the head and failed, or been killed, before it had asked.
        if not pending:
            assert_sound(connection, head)
    return {"changed": bool(pending), "from": current, "to": head, "pending": pending}


def migrate(target: Target, head: str) -> dict[str, Any]:
    with schema_lock(target) as connection:
        current = current_revision(connection)
        pending = pending_revisions(current, head)
        if pending:
            log.info("migrating from %s over %s", current, ", ".join(pending))
            upgrade(target, head)
        assert_sound(connection, head)
    return {"changed": bool(pending), "from": current, "to": head}


def pinned_head() -> str:
    head, pinned = single_head(), expected_revision()
    if head != pinned:
        raise MigrationFailed(f"migrations/ ends at {head}, but this image was built for {pinned}: build it again.")
    return head


def run(settings: MigrationSettings, *, only_check: bool) -> dict[str, Any]:
    target = Target(settings)
    head = pinned_head()
    return check(target, head) if only_check else migrate(target, head)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m seawall_service.migrate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what would be migrated")
    only_check = parser.parse_args().check
    try:
        settings = load_migration_settings()
        configure_logging(settings.log_level, debug=settings.debug, stream=sys.stderr)
        result = run(settings, only_check=only_check)
    except StartupRefused as refused:
        exit_refused(refused)
    except MigrationFailed as failed:
        sys.stderr.write(f"{failed}\n")
        return EXIT_FAILED
    except (psycopg.Error, CommandError, RevisionError) as error:
        sys.stderr.write(f"The {'check' if only_check else 'migration'} failed: {first_line(error)}\n")
        return EXIT_FAILED
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
