"""What the service's database role must not be able to do, asked of the database itself."""

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import DictRow

from seawall_service.settings import Settings
from seawall_service.startup_gate import Refusal, StartupRefused

log = structlog.get_logger(__name__)

# Every row is a reason to refuse.
EXCESS_RIGHTS = sql.SQL("""
WITH me AS (SELECT * FROM pg_roles WHERE rolname = current_user)
SELECT 'has the role flag ' || flag AS reason
  FROM me, LATERAL (VALUES ('SUPERUSER', rolsuper), ('CREATEROLE', rolcreaterole), ('CREATEDB', rolcreatedb),
                           ('REPLICATION', rolreplication), ('BYPASSRLS', rolbypassrls)) AS flags (flag, held)
 WHERE held
UNION ALL SELECT 'is ' || current_user || ', not ' || {expected} WHERE current_user <> {expected}
UNION ALL SELECT 'logged in as ' || session_user WHERE session_user <> current_user
UNION ALL SELECT 'is a member of ' || rolname FROM pg_roles
           WHERE rolname <> current_user AND pg_has_role(session_user, oid, 'MEMBER')
UNION ALL SELECT 'owns ' || c.oid::regclass FROM pg_class c JOIN me ON c.relowner = me.oid
           WHERE c.relnamespace <> 'pg_catalog'::regnamespace
UNION ALL SELECT 'owns schema ' || nspname FROM pg_namespace n JOIN me ON n.nspowner = me.oid
UNION ALL SELECT 'owns database ' || datname FROM pg_database d JOIN me ON d.datdba = me.oid
UNION ALL SELECT 'may create in schema ' || nspname FROM pg_namespace
           WHERE nspname !~ '^pg_' AND has_schema_privilege(oid, 'CREATE')
UNION ALL SELECT 'has ' || p || ' on database ' || current_database() FROM unnest(ARRAY['CREATE', 'TEMP']) p
           WHERE has_database_privilege(current_database(), p)
UNION ALL SELECT 'may ' || p || ' rows of ' || c.oid::regclass
            FROM pg_class c, unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) p
           WHERE c.relnamespace = 'app'::regnamespace AND c.relkind IN ('r', 'p')
             AND seawall.table_class(c.relname) = 'append' AND has_table_privilege(c.oid, p)
""")
# The grant rules themselves live in the database, in schema `seawall`. Of what differs from them only this role's own part
# is a reason to refuse: a hand in the grants of another role must not stop the API.
DRIFT = """
SELECT concat_ws(' ', what, object, grantee, privilege) AS line,
       what LIKE '%trigger missing or off' OR coalesce(grantee IN (current_user, 'PUBLIC'), false) AS refuses
  FROM seawall.grant_drift
"""
CURE = "Run ./seawall deploy, which reconciles roles and grants, and use the application role in DATABASE_URL"
GUARD_MISSING = "schema seawall, which guards the grants, is missing or not readable"
REASONS_SHOWN = 5


def refusal_of(reasons: list[str]) -> StartupRefused:
    shown = "; ".join(reasons[:REASONS_SHOWN])
    more = f"; and {len(reasons) - REASONS_SHOWN} more" if len(reasons) > REASONS_SHOWN else ""
    return StartupRefused([Refusal("DATABASE_URL", f"the database role has rights it must not have: {shown}{more}", CURE)])


async def excess_rights(connection: psycopg.AsyncConnection[DictRow], expected_role: str) -> list[str]:
    try:
        cursor = await connection.execute(EXCESS_RIGHTS.format(expected=sql.Literal(expected_role)))
        reasons = [row["reason"] for row in await cursor.fetchall()]
        drift = await (await connection.execute(DRIFT)).fetchall()
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedFunction,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.InsufficientPrivilege,
    ):
        return [GUARD_MISSING]
    elsewhere = [row["line"] for row in drift if not row["refuses"]]
    if elsewhere:
        log.warning("startup.grants_drifted", drift=elsewhere[:REASONS_SHOWN], count=len(elsewhere), cure=CURE)
    return reasons + [f"grants drifted: {row['line']}" for row in drift if row["refuses"]]


async def judge_role(connection: psycopg.AsyncConnection[DictRow], settings: Settings) -> None:
    """A role with too many rights is refused in production, and told elsewhere."""
    reasons = await excess_rights(connection, settings.app_db_role)
    if reasons and settings.is_production:
        raise refusal_of(reasons)
    if reasons:
        log.warning("startup.database_role", reasons=reasons)
