-- Everything inside database `app`.
BEGIN;
SELECT pg_advisory_xact_lock(7021961) \g /dev/null
\ir database_state.sql
CREATE TEMP TABLE state_before ON COMMIT DROP AS SELECT * FROM pg_temp.state();
\ir settings.sql
\ir schemas.sql
\ir guard.sql
\ir guard_drift.sql
\ir guard_triggers.sql
\ir existing_tables.sql
\ir changes.sql
