-- Lines of "role verifier". Only SCRAM verifiers: Postgres would take any other text for a password in clear.
CREATE TEMP TABLE verifier_lines (line text) ON COMMIT DROP;
\copy verifier_lines FROM '/run/secrets/db_verifiers' WITH (DELIMITER E'\x01')

DO $$
DECLARE
  wanted record;
BEGIN
  FOR wanted IN
    SELECT r.name, split_part(l.line, ' ', 2) AS verifier, a.rolpassword
    FROM wanted_roles AS r JOIN pg_authid AS a ON a.rolname = r.name
    LEFT JOIN verifier_lines AS l ON split_part(l.line, ' ', 1) = r.name
  LOOP
    IF wanted.verifier IS NULL THEN
      IF wanted.name IN ('seawall_app', 'seawall_migrator', 'seawall_backup') THEN
        RAISE 'the secret db_verifiers has no line for role %: run ./seawall deploy, which generates what is missing', wanted.name;
      END IF;
      EXECUTE format('ALTER ROLE %I PASSWORD NULL', wanted.name);
    ELSIF wanted.verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/]+=*\$[A-Za-z0-9+/]+=*:[A-Za-z0-9+/]+=*$' THEN
      RAISE 'the line for role % in the secret db_verifiers holds no SCRAM-SHA-256 verifier: delete the file and deploy again', wanted.name;
    ELSIF wanted.verifier IS DISTINCT FROM wanted.rolpassword THEN
      EXECUTE format('ALTER ROLE %I PASSWORD %L', wanted.name, wanted.verifier);
    END IF;
  END LOOP;
END $$;
