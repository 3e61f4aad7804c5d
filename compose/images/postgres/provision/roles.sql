CREATE TEMP TABLE wanted_roles (name, login, inherit, connections) ON COMMIT DROP AS VALUES
  ('seawall_owner',    false, false, -1),
  ('seawall_migrator', true,  false, 3),
  -- Twenty stay free for the other roles, for jobs and for the superuser.
  ('seawall_app',      true,  false, current_setting('max_connections')::integer - 20),
  ('seawall_readonly', true,  true,  5),
  ('seawall_backup',   true,  true,  6),
  ('seawall_monitor',  true,  true,  3);

CREATE TEMP TABLE wanted_memberships (role, member, options) ON COMMIT DROP AS VALUES
  ('seawall_owner', 'seawall_migrator', 'INHERIT FALSE, SET TRUE, ADMIN FALSE'),
  ('pg_monitor', 'seawall_monitor', 'INHERIT TRUE, SET FALSE, ADMIN FALSE'),
  -- A backup and a look at the server must work when the application holds every other connection.
  ('pg_use_reserved_connections', 'seawall_backup', 'INHERIT TRUE, SET FALSE, ADMIN FALSE'),
  ('pg_use_reserved_connections', 'seawall_monitor', 'INHERIT TRUE, SET FALSE, ADMIN FALSE');

DO $$
DECLARE
  wanted record;
  present record;
BEGIN
  FOR wanted IN SELECT * FROM wanted_roles LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
      EXECUTE format('CREATE ROLE %I', wanted.name);
    END IF;
    EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS %s %s CONNECTION LIMIT %s VALID UNTIL ''infinity''',
                   wanted.name, CASE WHEN wanted.login THEN 'LOGIN' ELSE 'NOLOGIN' END,
                   CASE WHEN wanted.inherit THEN 'INHERIT' ELSE 'NOINHERIT' END, wanted.connections);
    EXECUTE format('ALTER ROLE %I RESET ALL', wanted.name);
  END LOOP;

  FOR present IN
    SELECT DISTINCT roleid::regrole AS role, member::regrole AS member, grantor::regrole AS grantor FROM pg_auth_members
    WHERE (member::regrole::text IN (SELECT name FROM wanted_roles) OR roleid::regrole::text IN (SELECT name FROM wanted_roles))
      AND (roleid::regrole::text, member::regrole::text) NOT IN (SELECT role, member FROM wanted_memberships)
  LOOP
    EXECUTE format('REVOKE %s FROM %s GRANTED BY %s CASCADE', present.role, present.member, present.grantor);
  END LOOP;
  FOR wanted IN SELECT * FROM wanted_memberships LOOP
    EXECUTE format('GRANT %I TO %I WITH %s', wanted.role, wanted.member, wanted.options);
  END LOOP;
END $$;

REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE postgres TO seawall_monitor;
