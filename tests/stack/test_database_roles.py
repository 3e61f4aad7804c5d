"""Who may do what in the database, by trying it as each role. A refusal counts only if nothing changed either."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from database_access import SUPERUSER, Database, database_with_clients
from installation import containers, docker, in_charge

pytestmark = pytest.mark.usefixtures("stack")

APP = "seawall_app"
BACKUP = "seawall_backup"
MIGRATOR = "seawall_migrator"
MONITOR = "seawall_monitor"
READONLY = "seawall_readonly"
REFUSED = "42501"
NO_CLASS = "42P16"

MAKE = """
CREATE TABLE events_t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int UNIQUE, body text);
CREATE TABLE entries_t (id bigserial PRIMARY KEY, event bigint REFERENCES events_t, body text);
CREATE TABLE audit_t (id int, body text);
CREATE TABLE events_p (id int, part int) PARTITION BY LIST (part);
CREATE TABLE events_p1 PARTITION OF events_p FOR VALUES IN (1);
CREATE TABLE proj_t AS SELECT 1 AS id, 'one'::text AS body;
CREATE TABLE state_t (id int PRIMARY KEY, body text);
INSERT INTO events_t (k, body) VALUES (1, 'one'), (2, 'two');
INSERT INTO audit_t VALUES (1, 'one');
INSERT INTO events_p VALUES (1, 1);
"""
DROP = "DROP TABLE IF EXISTS entries_t, events_t, audit_t, events_p, proj_t, state_t, proj_was_t, events_was_t"

# Every row of the append-only tables, every grant on them, every trigger and owner: refused means that this is the same.
STATE = """
SELECT md5(string_agg(line, '|' ORDER BY line)) FROM (
  SELECT 'events_t' || t::text FROM app.events_t t UNION ALL SELECT 'entries_t' || t::text FROM app.entries_t t
  UNION ALL SELECT 'audit_t' || t::text FROM app.audit_t t UNION ALL SELECT 'events_p' || t::text FROM app.events_p t
  UNION ALL SELECT 'version' || t::text FROM app.alembic_version t
  UNION ALL SELECT concat_ws(' ', relname, relkind, relowner, relacl) FROM pg_class WHERE relnamespace = 'app'::regnamespace
  UNION ALL SELECT concat_ws(' ', tgname, tgrelid, tgenabled) FROM pg_trigger
  UNION ALL SELECT concat_ws(' ', evtname, evtenabled) FROM pg_event_trigger
  UNION ALL SELECT concat_ws(' ', nspname, nspowner, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_'
  UNION ALL SELECT concat_ws(' ', rolname, rolsuper, rolcreaterole, rolconnlimit, rolpassword) FROM pg_authid
  UNION ALL SELECT concat_ws(' ', roleid, member) FROM pg_auth_members
  UNION ALL SELECT 'large objects ' || count(*) FROM pg_largeobject_metadata
  UNION ALL SELECT 'sequence ' || last_value FROM app.entries_t_id_seq
) AS s (line)
"""


@pytest.fixture(scope="module")
def psql() -> Iterator[Database]:
    with database_with_clients() as database:
        yield database
        database.must(MIGRATOR, f"SET client_min_messages = error; {DROP}")


@pytest.fixture(autouse=True)
def tables(psql: Database) -> None:
    """One table of each class, made as a migration makes them; no statement about grants."""
    psql.must(MIGRATOR, f"SET client_min_messages = error; {DROP}; {MAKE}")


def drift(psql: Database) -> str:
    return psql.value("SELECT * FROM seawall.grant_drift")


def refused(psql: Database, role: str, sql: str, state: str = REFUSED) -> None:
    before = psql.value(STATE)
    outcome = psql(role, sql)
    assert outcome.state == state, (sql, outcome)
    assert psql.value(STATE) == before, sql


def all_refused(psql: Database, role: str, statements: list[str]) -> None:
    before = psql.value(STATE)
    assert {sql: psql(role, sql).state for sql in statements} == dict.fromkeys(statements, REFUSED)
    assert psql.value(STATE) == before


@pytest.mark.requirement("SEC-06", "BEY-10")
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE app.{t} SET body = 'changed'",
        "DELETE FROM app.{t}",
        "TRUNCATE app.{t}",
        "MERGE INTO app.{t} AS t USING (SELECT 1 AS id) AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET body = 'changed'",
        "SELECT * FROM app.{t} FOR UPDATE",
        "SELECT * FROM app.{t} FOR NO KEY UPDATE",
        "SELECT * FROM app.{t} FOR SHARE",
        "SELECT * FROM app.{t} FOR KEY SHARE",
        "ALTER TABLE app.{t} ADD COLUMN x int",
        "ALTER TABLE app.{t} DISABLE TRIGGER ALL",
        "ALTER TABLE app.{t} OWNER TO seawall_app",
        "DROP TABLE app.{t}",
        "DROP TRIGGER seawall_append_only ON app.{t}",
    ],
)
@pytest.mark.parametrize("table", ["events_t", "entries_t", "audit_t"])
def test_app_cannot_change_append_only_tables(psql: Database, table: str, sql: str) -> None:
    psql.must(APP, "INSERT INTO app.entries_t (event, body) VALUES (1, 'one')")
    refused(psql, APP, sql.format(t=table))


@pytest.mark.requirement("SEC-06")
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO app.events_t (k, body) VALUES (1, 'x') ON CONFLICT (k) DO UPDATE SET body = 'changed'",
        "UPDATE app.events_p1 SET id = 2",
        "DELETE FROM app.events_p",
        "TRUNCATE app.events_p1",
        "UPDATE app.alembic_version SET version_num = 'x'",
        "INSERT INTO app.alembic_version VALUES ('x')",
        "DELETE FROM app.alembic_version",
        "CREATE TABLE app.proj_mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION app.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SET ROLE seawall_owner",
        "SET ROLE seawall_migrator",
        "SET SESSION AUTHORIZATION postgres",
        "SET session_replication_role = replica",
        "SET event_triggers = off",
        "SELECT setval('app.entries_t_id_seq', 1)",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT seawall.apply_grants('app.events_t')",
        "CREATE OR REPLACE FUNCTION seawall.refuse_mutation() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "DROP EVENT TRIGGER seawall_grants",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('/run/secrets/db_verifiers')",
        "COPY app.events_t TO PROGRAM 'cat'",
        "COPY app.events_t TO '/tmp/events'",
        "ALTER ROLE seawall_app SUPERUSER",
        "ALTER ROLE seawall_app CONNECTION LIMIT -1",
        "ALTER ROLE seawall_migrator PASSWORD 'x'",
        "GRANT seawall_owner TO seawall_app",
        "ALTER DATABASE app SET search_path = public",
        "ALTER SYSTEM SET fsync = off",
    ],
)
def test_app_cannot_leave_its_place(psql: Database, sql: str) -> None:
    refused(psql, APP, sql, "0A000" if sql.startswith("ALTER SYSTEM") else REFUSED)


def test_app_grants_nothing_although_postgres_calls_it_a_success(psql: Database) -> None:
    before = psql.value(STATE)
    outcome = psql(APP, "GRANT UPDATE ON app.events_t TO seawall_app")
    assert (outcome.state, outcome.warnings) == ("", ["01007"])
    assert psql.value(STATE) == before


@pytest.mark.requirement("SEC-06")
def test_app_can_do_its_work(psql: Database) -> None:
    psql.must(APP, "INSERT INTO events_t (k, body) VALUES (3, 'three') ON CONFLICT DO NOTHING")
    psql.must(APP, "INSERT INTO entries_t (event, body) VALUES (3, 'uses the sequence and the foreign key')")
    psql.must(APP, "INSERT INTO audit_t VALUES (2, 'two'); INSERT INTO events_p VALUES (2, 1)")
    dml = """INSERT INTO <table> VALUES (7, 'a'); UPDATE <table> SET body = 'b' WHERE id = 7;
             SELECT body FROM <table> WHERE id = 7 FOR UPDATE; DELETE FROM <table> WHERE id = 7"""
    assert psql.must(APP, dml.replace("<table>", "proj_t")) == "b"
    assert psql.must(APP, dml.replace("<table>", "state_t")) == "b"
    assert psql.must(APP, "SELECT count(*) FROM events_t") == "3"
    assert psql.must(APP, "SELECT count(*) FROM alembic_version") == "1"


@pytest.mark.requirement("BEY-10")
@pytest.mark.parametrize(
    "statement", ["UPDATE app.events_t SET body = 'x'", "DELETE FROM app.events_t", "TRUNCATE app.entries_t"]
)
def test_second_layer_stops_owner_and_superuser(psql: Database, statement: str) -> None:
    refused(psql, MIGRATOR, statement)
    refused(psql, SUPERUSER, f"SET session_replication_role = replica; {statement}")


def test_without_both_layers_the_same_update_succeeds(psql: Database) -> None:
    """The negative control: it is grants and trigger that refuse, and each of them alone is enough."""
    grant = "GRANT UPDATE ON app.events_t TO seawall_app;"
    drop = "DROP TRIGGER seawall_append_only ON app.events_t;"
    update = "SET SESSION AUTHORIZATION seawall_app; UPDATE app.events_t SET body = 'changed' RETURNING 1;"
    assert psql(SUPERUSER, f"BEGIN; {grant} {drop} {update} ROLLBACK;").rows == "1\n1"
    assert psql(SUPERUSER, f"BEGIN; {grant} {update} ROLLBACK;").state == REFUSED
    assert psql(SUPERUSER, f"BEGIN; {drop} {update} ROLLBACK;").state == REFUSED


@pytest.mark.requirement("SEC-06", "BEY-10")
def test_new_tables_have_exactly_the_grants_of_their_names(psql: Database) -> None:
    assert drift(psql) == ""
    psql.must(MIGRATOR, "SELECT 1 AS id INTO events_was_t; CREATE TABLE events_p2 PARTITION OF events_p FOR VALUES IN (2)")
    psql.must(
        MIGRATOR, "CREATE TABLE events_p3 (id int, part int); ALTER TABLE events_p ATTACH PARTITION events_p3 FOR VALUES IN (3)"
    )
    assert drift(psql) == ""
    refused(psql, APP, "DELETE FROM app.events_was_t")
    refused(psql, APP, "DELETE FROM app.events_p3")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE documents (id int)",
        "CREATE TABLE documents AS SELECT 1 AS id",
        "CREATE TABLE eventsx (id int)",
        "CREATE TABLE my_events_t (id int)",
        "ALTER TABLE proj_t RENAME TO documents",
        "CREATE VIEW proj_view AS SELECT * FROM events_t",
        "CREATE MATERIALIZED VIEW proj_view AS SELECT * FROM events_t",
        "CREATE TABLE proj_part PARTITION OF events_p FOR VALUES IN (9)",
        "CREATE TABLE proj_child () INHERITS (events_t)",
    ],
)
def test_what_has_no_class_stops_the_migration(psql: Database, sql: str) -> None:
    refused(psql, MIGRATOR, sql, NO_CLASS)


def test_a_rename_across_classes_changes_the_grants(psql: Database) -> None:
    psql.must(MIGRATOR, "ALTER TABLE state_t RENAME TO events_was_t; INSERT INTO events_was_t VALUES (1, 'one')")
    assert drift(psql) == ""
    for role in (APP, MIGRATOR):
        refused(psql, role, "UPDATE app.events_was_t SET body = 'x'")
    psql.must(MIGRATOR, "ALTER TABLE events_was_t RENAME TO proj_was_t")
    assert drift(psql) == ""
    assert psql.must(APP, "UPDATE proj_was_t SET body = 'x' RETURNING body") == "x"


def test_owner_cannot_keep_the_trigger_off(psql: Database) -> None:
    psql.must(MIGRATOR, "ALTER TABLE events_t DISABLE TRIGGER seawall_append_only")
    assert drift(psql) == ""
    refused(psql, MIGRATOR, "DELETE FROM app.events_t")


WEAKER_TRIGGER = (
    "DROP TRIGGER seawall_append_only ON events_t;"
    " CREATE TRIGGER seawall_append_only BEFORE {events} ON events_t FOR EACH STATEMENT {when}"
    " EXECUTE FUNCTION seawall.refuse_mutation();"
    " ALTER TABLE events_t ENABLE ALWAYS TRIGGER seawall_append_only"
)


@pytest.mark.requirement("BEY-10")
@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("GRANT UPDATE ON events_t TO seawall_app", "extra grant"),
        ("GRANT UPDATE (body) ON events_t TO seawall_app", "column grant"),
        ("GRANT SELECT ON events_t TO PUBLIC", "extra grant"),
        ("REVOKE SELECT ON proj_t FROM seawall_backup", "missing grant"),
        ("REVOKE SELECT ON SEQUENCE entries_t_id_seq FROM seawall_backup", "missing grant"),
        ("DROP TRIGGER seawall_append_only ON events_t", "append-only trigger missing or off"),
        (WEAKER_TRIGGER.format(events="UPDATE OR DELETE OR TRUNCATE", when="WHEN (false)"), "append-only trigger missing or off"),
        (WEAKER_TRIGGER.format(events="UPDATE OF body OR DELETE OR TRUNCATE", when=""), "append-only trigger missing or off"),
    ],
)
def test_a_hand_in_the_grants_is_seen_and_mended(psql: Database, sql: str, what: str) -> None:
    psql.must(MIGRATOR, sql)
    assert drift(psql).startswith(f"{what}|")
    planned = psql.provision("--check")
    assert planned["changed"] is True
    assert drift(psql).startswith(f"{what}|"), "a check changed something"
    assert psql.provision()["changes"] == planned["changes"]
    assert drift(psql) == ""
    assert psql.provision() == {"changed": False, "changes": [], "drift": []}


@pytest.fixture
def nobody_watches(psql: Database) -> Iterator[None]:
    """Tables are made past the event trigger, which only the superuser could bring about."""
    psql.must(SUPERUSER, "ALTER EVENT TRIGGER seawall_grants DISABLE")
    yield
    psql.must(SUPERUSER, "DROP TABLE IF EXISTS app.documents, app.proj_part, app.proj_child; DROP VIEW IF EXISTS app.proj_view")
    psql.provision()
    assert drift(psql) == ""


@pytest.mark.requirement("BEY-10")
@pytest.mark.usefixtures("nobody_watches")
@pytest.mark.parametrize(
    ("sql", "seen"),
    [
        ("CREATE TABLE documents (id int)", "no class|documents||"),
        ("CREATE VIEW proj_view AS SELECT 1 AS id", "no class|proj_view||"),
        ("CREATE TABLE proj_part PARTITION OF events_p FOR VALUES IN (9)", "part of another class|proj_part||"),
        ("CREATE TABLE proj_child () INHERITS (events_t)", "part of another class|proj_child||"),
    ],
)
def test_what_was_made_past_the_event_trigger_is_seen(psql: Database, sql: str, seen: str) -> None:
    psql.must(MIGRATOR, sql)
    found = drift(psql).splitlines()
    assert {seen, "event trigger missing or off|seawall_grants||"} <= set(found), found


@pytest.mark.requirement("BEY-10")
def test_a_table_of_another_owner_is_seen(psql: Database) -> None:
    psql.must(SUPERUSER, "ALTER TABLE app.proj_t OWNER TO seawall_app")
    try:
        assert "wrong owner|proj_t|seawall_app|" in drift(psql).splitlines()
    finally:
        psql.must(SUPERUSER, "ALTER TABLE app.proj_t OWNER TO seawall_owner")
    assert drift(psql) == ""


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER ROLE seawall_app SET work_mem = '1GB'",
        "ALTER ROLE seawall_app IN DATABASE app SET statement_timeout = 0",
        "ALTER ROLE seawall_app PASSWORD 'cleartext'",
        "ALTER ROLE seawall_readonly PASSWORD 'cleartext'",
        "ALTER ROLE seawall_app CREATEDB",
        "GRANT pg_read_all_data TO seawall_app",
        "GRANT seawall_owner TO seawall_app WITH ADMIN TRUE",
        "GRANT CREATE ON SCHEMA app TO seawall_app",
        "GRANT TEMPORARY ON DATABASE app TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC",
        "CREATE SCHEMA public",
        "ALTER EVENT TRIGGER seawall_grants DISABLE",
        "DROP EVENT TRIGGER seawall_grants",
        "CREATE OR REPLACE FUNCTION seawall.table_class(relation_name name) RETURNS text LANGUAGE sql AS $$ SELECT 'dml' $$",
        "GRANT EXECUTE ON FUNCTION seawall.apply_grants(regclass) TO PUBLIC",
    ],
)
def test_provisioning_mends_the_catalogue_and_then_finds_nothing(psql: Database, sql: str) -> None:
    psql.must(SUPERUSER, sql)
    planned = psql.provision("--check")
    assert planned["changed"] is True
    assert psql.provision()["changes"] == planned["changes"]
    assert psql.provision() == {"changed": False, "changes": [], "drift": []}


# What the service asks before it starts, asked by the one that runs: with its own settings, as its own role.
JUDGE = """
import asyncio, psycopg
from psycopg.rows import dict_row
from seawall_service.db.pool import connection_arguments
from seawall_service.db.roles import excess_rights
from seawall_service.startup_gate import load_settings

async def judge():
    settings = load_settings("api")
    async with await psycopg.AsyncConnection.connect(**connection_arguments(settings), row_factory=dict_row) as connection:
        print(*await excess_rights(connection, settings.app_db_role), sep="\\n")

asyncio.run(judge())
"""


def reasons_to_refuse() -> list[str]:
    told = docker("exec", containers()[in_charge("api")]["Id"], "python", "-c", JUDGE)
    return [line for line in told.splitlines() if line]


@pytest.mark.requirement("SEC-02")
@pytest.mark.parametrize(
    ("sql", "reason", "undo"),
    [
        ("ALTER ROLE seawall_app CREATEROLE", "has the role flag CREATEROLE", ""),
        ("GRANT pg_read_all_data TO seawall_app", "is a member of pg_read_all_data", ""),
        ("ALTER TABLE app.proj_t OWNER TO seawall_app", "owns proj_t", "ALTER TABLE app.proj_t OWNER TO seawall_owner"),
        ("CREATE SCHEMA elsewhere AUTHORIZATION seawall_app", "owns schema elsewhere", "DROP SCHEMA elsewhere"),
        ("GRANT CREATE ON SCHEMA app TO seawall_app", "may create in schema app", ""),
        ("GRANT TEMPORARY ON DATABASE app TO PUBLIC", "has TEMP on database app", ""),
    ],
)
def test_a_service_whose_role_may_too_much_says_why_it_would_not_start(psql: Database, sql: str, reason: str, undo: str) -> None:
    psql.must(SUPERUSER, sql)
    try:
        found = reasons_to_refuse()
    finally:
        psql.must(SUPERUSER, undo or "SELECT 1")
        psql.provision()
    assert reason in found, found
    assert reasons_to_refuse() == []


def test_owner_has_nothing_outside_its_schema(psql: Database) -> None:
    psql.must(SUPERUSER, "CREATE SCHEMA elsewhere AUTHORIZATION seawall_owner")
    psql.must(MIGRATOR, "CREATE TABLE elsewhere.hidden (id int)")
    try:
        assert "owned outside schema app|elsewhere.hidden" in drift(psql)
    finally:
        psql.must(SUPERUSER, "DROP SCHEMA elsewhere CASCADE")
    assert drift(psql) == ""


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO app.proj_t VALUES (2, 'x')",
        "UPDATE app.proj_t SET id = 2",
        "SELECT rolpassword FROM pg_authid",
        "SELECT lo_create(0)",
    ],
)
def test_backup_only_reads(psql: Database, sql: str) -> None:
    assert psql.must(BACKUP, "SELECT body FROM app.proj_t") == "one"
    refused(psql, BACKUP, sql)


def test_readonly_reads_every_table_and_monitor_none(psql: Database) -> None:
    readable = {
        "SELECT body FROM app.events_t ORDER BY id": "one\ntwo",
        "SELECT count(*) FROM app.entries_t": "0",
        "SELECT body FROM app.audit_t": "one",
        "SELECT id FROM app.events_p": "1",
        "SELECT body FROM app.proj_t": "one",
        "SELECT count(*) FROM app.state_t": "0",
        "SELECT count(*) FROM app.alembic_version": "1",
    }
    assert {sql: psql.must(READONLY, sql) for sql in readable} == readable
    all_refused(psql, MONITOR, list(readable))


@pytest.mark.parametrize("table", ["audit_t", "proj_t", "state_t"])
@pytest.mark.parametrize("role", [READONLY, MONITOR])
def test_readonly_and_monitor_change_no_table(psql: Database, role: str, table: str) -> None:
    statements = [
        "INSERT INTO app.{t} VALUES (9, 'x')",
        "UPDATE app.{t} SET id = 9",
        "DELETE FROM app.{t}",
        "TRUNCATE app.{t}",
        "SELECT * FROM app.{t} FOR SHARE",
        "ALTER TABLE app.{t} ADD COLUMN x int",
        "DROP TABLE app.{t}",
    ]
    all_refused(psql, role, [sql.format(t=table) for sql in statements])


@pytest.mark.parametrize("role", [READONLY, MONITOR])
def test_readonly_and_monitor_cannot_leave_their_place(psql: Database, role: str) -> None:
    statements = [
        "CREATE TABLE app.proj_mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "SELECT nextval('app.entries_t_id_seq')",
        "SELECT lo_create(0)",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('/run/secrets/db_verifiers')",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "SELECT seawall.apply_grants('app.events_t')",
        "ALTER ROLE seawall_app CONNECTION LIMIT 1",
        "GRANT seawall_owner TO CURRENT_USER",
    ]
    all_refused(psql, role, statements)


def test_monitor_sees_the_server_and_readonly_does_not(psql: Database) -> None:
    assert psql.must(MONITOR, "SHOW data_directory").startswith("/var/lib/postgresql/")
    refused(psql, READONLY, "SHOW data_directory")


def test_the_doors_are_shut(psql: Database) -> None:
    client = psql.clients[APP]
    for role, database in [
        (SUPERUSER, "app"),
        (SUPERUSER, "postgres"),
        (APP, "postgres"),
        (APP, "template1"),
        ("seawall_owner", "app"),
    ]:
        assert "pg_hba.conf rejects connection" in psql.psql(client, role, "postgres", database, "SELECT 1").errors
    for role in (READONLY, MONITOR, MIGRATOR):
        assert "password authentication failed" in psql.psql(client, role, "postgres", "app", "SELECT 1").errors
    for role in (APP, MIGRATOR, BACKUP):
        assert "pg_hba.conf rejects connection" in psql.psql(psql.container, role, "/run/postgresql", "app", "SELECT 1").errors


def test_nobody_changes_the_servers_configuration_from_inside(psql: Database) -> None:
    assert psql(SUPERUSER, "ALTER SYSTEM SET fsync = off").state == "0A000"
    wanted = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "password_encryption": "scram-sha-256",
    }
    for name, value in wanted.items():
        assert psql.value(f"SHOW {name}") == value


def test_migrator_lands_as_owner_with_its_limits(psql: Database) -> None:
    assert psql.must(MIGRATOR, "SELECT session_user, current_user") == "seawall_migrator|seawall_owner"
    assert psql.must(MIGRATOR, "SHOW lock_timeout") == "3s"
    assert psql.must(APP, "SHOW statement_timeout") == "15s"
