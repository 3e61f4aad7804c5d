-- Roles and everything else that is not inside one database. Run in database `postgres`.
BEGIN;
SELECT pg_advisory_xact_lock(7021961) \g /dev/null
\ir cluster_state.sql
CREATE TEMP TABLE state_before ON COMMIT DROP AS SELECT * FROM pg_temp.state();
\ir roles.sql
\ir verifiers.sql
\ir changes.sql
