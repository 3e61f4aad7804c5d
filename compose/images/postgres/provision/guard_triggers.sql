DO $$
DECLARE
  tags CONSTANT text[] := ARRAY['ALTER FOREIGN TABLE', 'ALTER MATERIALIZED VIEW', 'ALTER SEQUENCE', 'ALTER TABLE', 'ALTER VIEW', 'CREATE FOREIGN TABLE',
    'CREATE MATERIALIZED VIEW', 'CREATE SEQUENCE', 'CREATE TABLE', 'CREATE TABLE AS', 'CREATE VIEW', 'IMPORT FOREIGN SCHEMA', 'SELECT INTO'];
BEGIN
  IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'seawall_grants' AND evtevent = 'ddl_command_end'
                 AND evtfoid = 'seawall.on_ddl()'::regprocedure AND evttags @> tags AND evttags <@ tags) THEN
    DROP EVENT TRIGGER IF EXISTS seawall_grants;
    EXECUTE format('CREATE EVENT TRIGGER seawall_grants ON ddl_command_end WHEN TAG IN (%s) EXECUTE FUNCTION seawall.on_ddl()',
                   (SELECT string_agg(quote_literal(tag), ', ') FROM unnest(tags) AS tag));
  END IF;
  ALTER EVENT TRIGGER seawall_grants ENABLE ALWAYS;
END $$;
