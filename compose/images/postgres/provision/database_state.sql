-- What database.sql answers for, as (object, value): compared before and after.
CREATE FUNCTION pg_temp.grants(acl aclitem[]) RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(concat_ws(' ', grantee::regrole, privilege_type, is_grantable), ',' ORDER BY grantee, privilege_type)
  FROM aclexplode(acl)
$$;

CREATE FUNCTION pg_temp.state() RETURNS TABLE (object text, value text) LANGUAGE sql AS $$
  SELECT 'database app', concat_ws(' ', datdba::regrole, pg_temp.grants(coalesce(datacl, acldefault('d', datdba))))
  FROM pg_database WHERE datname = current_database()
  UNION ALL
  SELECT CASE setrole WHEN 0 THEN 'settings of database app' ELSE format('settings of %s in database app', setrole::regrole) END,
         array_to_string(ARRAY(SELECT unnest(setconfig) ORDER BY 1), ',')
  FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL
  SELECT 'schema ' || nspname, concat_ws(' ', nspowner::regrole, pg_temp.grants(coalesce(nspacl, acldefault('n', nspowner))))
  FROM pg_namespace WHERE nspname IN ('app', 'seawall', 'public')
  UNION ALL
  SELECT format('default grants of %s (%s)', defaclrole::regrole, defaclobjtype), pg_temp.grants(defaclacl)
  FROM pg_default_acl
  UNION ALL
  SELECT 'function ' || p.oid::regprocedure,
         concat_ws(' ', p.proowner::regrole, pg_temp.grants(coalesce(p.proacl, acldefault('f', p.proowner))),
                   CASE n.nspname WHEN 'seawall' THEN pg_get_functiondef(p.oid) END)
  FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
  WHERE n.nspname = 'seawall'
     OR n.nspname = 'pg_catalog' AND p.proname IN ('lo_create', 'lo_creat', 'lo_from_bytea', 'lo_import', 'lo_open', 'lowrite', 'lo_put')
  UNION ALL
  SELECT 'view ' || c.oid::regclass, concat_ws(' ', c.relowner::regrole, pg_temp.grants(c.relacl), pg_get_viewdef(c.oid))
  FROM pg_class AS c WHERE c.relkind = 'v' AND c.relnamespace = to_regnamespace('seawall')
  UNION ALL
  SELECT 'event trigger ' || evtname, concat_ws(' ', evtevent, evtowner::regrole, evtfoid::regproc, evtenabled, array_to_string(evttags, ','))
  FROM pg_event_trigger
  UNION ALL
  SELECT 'grants on ' || c.oid::regclass,
         concat_ws(' ', c.relowner::regrole, pg_temp.grants(c.relacl),
                   (SELECT string_agg(concat_ws(' ', attname, pg_temp.grants(attacl)), ',' ORDER BY attnum)
                    FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL))
  FROM pg_class AS c WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f') AND c.relnamespace = to_regnamespace('app')
  UNION ALL
  SELECT format('trigger %s on %s', t.tgname, t.tgrelid::regclass), concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid))
  FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
  WHERE NOT t.tgisinternal AND c.relnamespace = to_regnamespace('app')
$$;
