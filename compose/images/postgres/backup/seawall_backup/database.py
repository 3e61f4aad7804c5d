"""Questions to a server: the live one and the scratch one are asked the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from seawall_backup.errors import BackupError, BusyError
from seawall_backup.manifest import Contents, Table

# The migration job takes the same key exclusively, so a dump never sees half a migration and never makes one wait.
SCHEMA_LOCK = 7021960

Connection = psycopg.Connection[TupleRow]

# Everything that changes how a value looks as text, so that the same row gives the same digest on both servers.
TEXT_FORM = {
    "bytea_output": "hex",
    "datestyle": "ISO, YMD",
    "extra_float_digits": "1",
    "intervalstyle": "postgres",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "timezone": "UTC",
    "xmloption": "content",
}

TABLES = """
SELECT n.nspname, c.relname, key.attname
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
  SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
  WHERE i.indrelid = c.oid AND i.indisprimary AND i.indnkeyatts = 1
    AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
) AS key ON true
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY n.nspname, c.relname
"""

SEQUENCES = """
SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True)
class Server:
    """What must be known before a backup is worth making."""

    major: int
    version: str
    checksums: bool
    damaged_pages: int
    large_objects: int
    database_bytes: int
    system_identifier: str


def rows(connection: Connection, query: LiteralString | sql.Composed, *parameters: object) -> list[TupleRow]:
    return connection.execute(query, parameters or None).fetchall()


def describe_server(connection: Connection) -> Server:
    (answer,) = rows(
        connection,
        """SELECT current_setting('server_version_num')::integer / 10000, current_setting('server_version'),
                  current_setting('data_checksums') = 'on',
                  (SELECT coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database),
                  (SELECT count(*) FROM pg_largeobject_metadata),
                  pg_database_size(current_database()), (SELECT system_identifier::text FROM pg_control_system())""",
    )
    return Server(*answer)


def lock_schema(connection: Connection) -> None:
    """Shared with other backups, never with a migration. Held until the connection ends."""
    ((taken,),) = rows(connection, "SELECT pg_try_advisory_lock_shared(%s)", SCHEMA_LOCK)
    if not taken:
        raise BusyError("a migration is changing the schema. Wait for it, then try again")


def set_text_form(connection: Connection) -> None:
    for name, value in TEXT_FORM.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def read_table(connection: Connection, schema: str, table: str, key: str | None) -> Table:
    query = sql.SQL(
        "SELECT count(*), coalesce(sum(hashtextextended(seawall_row::text, 0)), 0)::text, {highest} "
        "FROM ONLY {table} AS seawall_row"
    ).format(
        highest=sql.SQL("max({})").format(sql.Identifier(key)) if key else sql.SQL("NULL::bigint"),
        table=sql.Identifier(schema, table),
    )
    ((count, digest, highest),) = rows(connection, query)
    return Table(rows=count, digest=digest, max_id=highest)


def read_contents(connection: Connection) -> Contents:
    """Everything in the database, as the connection's transaction sees it."""
    set_text_form(connection)
    sequences = {}
    for schema, name in rows(connection, SEQUENCES):
        ((last, called),) = rows(connection, sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name)))
        sequences[f"{schema}.{name}"] = last + (1 if called else 0)
    tables = {f"{schema}.{name}": read_table(connection, schema, name, key) for schema, name, key in rows(connection, TABLES)}
    revisions: list[str] = []
    if "app.alembic_version" in tables:
        revisions = [str(revision) for (revision,) in rows(connection, "SELECT version_num FROM app.alembic_version ORDER BY 1")]
    return Contents(tables=tables, sequences=sequences, revisions=revisions)


def grant_drift(connection: Connection) -> list[str]:
    """What differs from the grants that the tables' names ask for. Both servers name tables alike after set_text_form."""
    found = rows(connection, "SELECT concat_ws(' ', what || ':', object, grantee, privilege) FROM seawall.grant_drift")
    return [str(line) for (line,) in found]


def invalid_indexes(connection: Connection) -> list[str]:
    return [str(name) for (name,) in rows(connection, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")]


def connect(**parameters: str) -> Connection:
    try:
        return psycopg.connect(
            make_conninfo(connect_timeout=10, application_name="seawall-backup", **parameters), autocommit=True
        )
    except psycopg.OperationalError as error:
        raise BackupError(f"no connection to Postgres: {' '.join(str(error).split())}") from error
