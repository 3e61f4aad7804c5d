-- Grants follow from a table's name. A name of no class is refused, so no table is ever without a decision.
CREATE OR REPLACE FUNCTION seawall.table_class(relation_name name) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog AS $$
  SELECT CASE
    WHEN relation_name ~ '^(events$|events_|entries_|audit_)' THEN 'append'
    WHEN relation_name ~ '^(proj_|state_)' THEN 'dml'
    WHEN relation_name = 'alembic_version' THEN 'read'
  END
$$;

-- The only list of who may do what: apply_grants() grants it, grant_drift compares with it.
CREATE OR REPLACE FUNCTION seawall.class_grants(class text) RETURNS TABLE (grantee text, privilege text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog AS $$
  SELECT reader, 'SELECT' FROM unnest(ARRAY['seawall_app', 'seawall_readonly', 'seawall_backup']) AS reader
  WHERE class IN ('append', 'dml', 'read')
  UNION ALL
  SELECT 'seawall_app', unnest(CASE class WHEN 'append' THEN ARRAY['INSERT'] WHEN 'dml' THEN ARRAY['INSERT', 'UPDATE', 'DELETE']
                                          WHEN 'sequence' THEN ARRAY['USAGE'] END)
  UNION ALL
  SELECT 'seawall_backup', 'SELECT' WHERE class = 'sequence'
$$;

-- The second layer: a statement trigger that fires ALWAYS also stops the owner, TRUNCATE, and a superuser in replica mode.
CREATE OR REPLACE FUNCTION seawall.refuse_mutation() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION '% on %.% refused: the table is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = '42501';
END $$;

CREATE OR REPLACE FUNCTION seawall.apply_grants(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
  target pg_class;
  class text;
  kind text;
  wanted record;
  stranger oid;
  child regclass;
BEGIN
  SELECT * INTO STRICT target FROM pg_class WHERE oid = relation;
  kind := CASE target.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END;
  class := CASE target.relkind WHEN 'S' THEN 'sequence' WHEN 'r' THEN seawall.table_class(target.relname)
                               WHEN 'p' THEN seawall.table_class(target.relname) END;
  IF class IS NULL THEN
    RAISE EXCEPTION '% has no privilege class', relation USING ERRCODE = '42P16',
      HINT = 'Name a table events, events_*, entries_* or audit_* (append-only), or proj_* or state_* (read and write). Views have no class.';
  END IF;
  SELECT i.inhrelid INTO child FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = relation AND c.relkind IN ('r', 'p') AND seawall.table_class(c.relname) IS DISTINCT FROM class;
  IF child IS NULL THEN
    SELECT relation INTO child FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhparent
      WHERE i.inhrelid = relation AND c.relkind IN ('r', 'p') AND seawall.table_class(c.relname) IS DISTINCT FROM class;
  END IF;
  IF child IS NOT NULL THEN
    RAISE EXCEPTION '% and the table that it is a part of are of different privilege classes', child USING ERRCODE = '42P16';
  END IF;

  FOR stranger IN
    SELECT grantee FROM aclexplode(target.relacl)
    UNION SELECT a.grantee FROM pg_attribute, aclexplode(attacl) AS a WHERE attrelid = relation
    EXCEPT SELECT target.relowner
  LOOP
    EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', kind, relation, CASE stranger WHEN 0 THEN 'PUBLIC' ELSE stranger::regrole::text END);
  END LOOP;
  FOR wanted IN SELECT * FROM seawall.class_grants(class) LOOP
    EXECUTE format('GRANT %s ON %s %s TO %I', wanted.privilege, kind, relation, wanted.grantee);
  END LOOP;

  IF class = 'append' THEN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation AND tgname = 'seawall_append_only') THEN
      EXECUTE format('CREATE TRIGGER seawall_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
                     'FOR EACH STATEMENT EXECUTE FUNCTION seawall.refuse_mutation()', relation);
    END IF;
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation AND tgname = 'seawall_append_only' AND tgenabled <> 'A') THEN
      EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER seawall_append_only', relation);
    END IF;
  ELSIF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation AND tgname = 'seawall_append_only') THEN
    EXECUTE format('DROP TRIGGER seawall_append_only ON %s', relation);
  END IF;
END $$;

-- Runs again for the ALTER TABLE in apply_grants(), which then finds nothing left to do.
CREATE OR REPLACE FUNCTION seawall.on_ddl() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
  relation regclass;
BEGIN
  FOR relation IN
    SELECT DISTINCT command.objid FROM pg_event_trigger_ddl_commands() AS command
    JOIN pg_class AS c ON c.oid = command.objid
    WHERE command.classid = 'pg_class'::regclass AND command.schema_name = 'app' AND NOT command.in_extension
      AND c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f')
  LOOP
    PERFORM seawall.apply_grants(relation);
  END LOOP;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA seawall FROM PUBLIC;
GRANT EXECUTE ON FUNCTION seawall.apply_grants(regclass), seawall.refuse_mutation() TO seawall_owner;
GRANT EXECUTE ON FUNCTION seawall.table_class(name), seawall.class_grants(text) TO seawall_owner, seawall_app, seawall_backup, seawall_monitor;
