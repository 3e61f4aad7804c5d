-- What cluster.sql answers for, as (object, value): compared before and after.
CREATE FUNCTION pg_temp.state() RETURNS TABLE (object text, value text) LANGUAGE sql AS $$
  SELECT 'role ' || rolname,
         concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil)
  FROM pg_authid WHERE rolname ~ '^seawall_'
  UNION ALL
  SELECT 'verifier of ' || rolname, rolpassword FROM pg_authid WHERE rolname ~ '^seawall_' AND rolpassword IS NOT NULL
  UNION ALL
  SELECT format('membership of %s in %s', member::regrole, roleid::regrole),
         string_agg(concat_ws(' ', admin_option, inherit_option, set_option), ',' ORDER BY grantor)
  FROM pg_auth_members WHERE member::regrole::text ~ '^seawall_' OR roleid::regrole::text ~ '^seawall_'
  GROUP BY member, roleid
  UNION ALL
  SELECT 'settings of ' || setrole::regrole, array_to_string(setconfig, ',')
  FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole::regrole::text ~ '^seawall_'
  UNION ALL
  SELECT 'grants on database ' || d.datname,
         string_agg(concat_ws(' ', a.grantee::regrole, a.privilege_type, a.is_grantable), ',' ORDER BY a.grantee, a.privilege_type)
  FROM pg_database AS d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
  WHERE d.datname IN ('postgres', 'template1') GROUP BY d.datname
$$;
