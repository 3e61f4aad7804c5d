CREATE SCHEMA IF NOT EXISTS app;
ALTER SCHEMA app OWNER TO seawall_owner;
REVOKE ALL ON SCHEMA app FROM PUBLIC, seawall_migrator, seawall_app, seawall_readonly, seawall_backup, seawall_monitor;
GRANT USAGE ON SCHEMA app TO seawall_app, seawall_readonly, seawall_backup;

-- The database's owner may create in `public`, where the guard does not look.
DO $$
BEGIN
  DROP SCHEMA IF EXISTS public;
EXCEPTION WHEN dependent_objects_still_exist THEN
  RAISE 'schema public of database app is not empty: move what is in it to schema app, then deploy again';
END $$;

-- New functions start without EXECUTE for everybody, and large objects, which no grant by table name covers, cannot be made.
ALTER DEFAULT PRIVILEGES FOR ROLE seawall_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea), lo_import(text), lo_import(text, oid),
  lo_open(oid, integer), lowrite(integer, bytea), lo_put(oid, bigint, bytea) FROM PUBLIC;

-- The guard belongs to the superuser: the owner of the data cannot change it.
CREATE SCHEMA IF NOT EXISTS seawall;
ALTER SCHEMA seawall OWNER TO postgres;
REVOKE ALL ON SCHEMA seawall FROM PUBLIC, seawall_owner;
GRANT USAGE ON SCHEMA seawall TO seawall_owner, seawall_app, seawall_backup, seawall_monitor;
