-- Everything that differs from what the names ask for. Empty, or the migration is refused.
CREATE OR REPLACE VIEW seawall.grant_drift (what, object, grantee, privilege) AS
WITH relations AS (
  SELECT c.oid, c.relname, c.relkind, c.relowner, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)) AS acl,
         CASE WHEN c.relkind = 'S' THEN 'sequence' WHEN c.relkind IN ('r', 'p') THEN seawall.table_class(c.relname) END AS class
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = 'app' AND c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f')
), wanted AS (
  SELECT r.oid, g.grantee, g.privilege FROM relations AS r, seawall.class_grants(r.class) AS g
), present AS (
  SELECT r.oid, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(a.grantee)::text END AS grantee,
         a.privilege_type || CASE WHEN a.is_grantable THEN ' with grant option' ELSE '' END AS privilege
  FROM relations AS r, pg_catalog.aclexplode(r.acl) AS a WHERE a.grantee <> r.relowner
)
SELECT 'missing grant', oid::regclass::text, grantee, privilege FROM (TABLE wanted EXCEPT TABLE present) AS d
UNION ALL
SELECT 'extra grant', oid::regclass::text, grantee, privilege FROM (TABLE present EXCEPT TABLE wanted) AS d
UNION ALL
SELECT 'no class', oid::regclass::text, NULL, NULL FROM relations WHERE class IS NULL
UNION ALL
SELECT 'wrong owner', oid::regclass::text, pg_catalog.pg_get_userbyid(relowner)::text, NULL FROM relations
WHERE pg_catalog.pg_get_userbyid(relowner) <> 'seawall_owner'
UNION ALL
SELECT 'column grant', a.attrelid::regclass::text, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(g.grantee)::text END,
       g.privilege_type || ' (' || a.attname || ')'
FROM pg_catalog.pg_attribute AS a JOIN relations AS r ON r.oid = a.attrelid, pg_catalog.aclexplode(a.attacl) AS g
UNION ALL
SELECT 'part of another class', i.inhrelid::regclass::text, NULL, NULL
FROM pg_catalog.pg_inherits AS i JOIN relations AS part ON part.oid = i.inhrelid JOIN relations AS whole ON whole.oid = i.inhparent
WHERE part.class IS DISTINCT FROM whole.class
UNION ALL
SELECT 'append-only trigger missing or off', r.oid::regclass::text, NULL, NULL FROM relations AS r
WHERE r.class = 'append' AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = r.oid AND t.tgname = 'seawall_append_only' AND t.tgenabled = 'A'
    AND t.tgfoid = 'seawall.refuse_mutation()'::regprocedure AND t.tgtype = 58
    -- Neither a WHEN clause nor a list of columns, which would let some statements pass.
    AND t.tgqual IS NULL AND t.tgattr::text = '')
UNION ALL
SELECT 'owned outside schema app', c.oid::regclass::text, 'seawall_owner', NULL
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE pg_catalog.pg_get_userbyid(c.relowner) = 'seawall_owner' AND n.nspname NOT IN ('app', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
UNION ALL
SELECT 'event trigger missing or off', 'seawall_grants', NULL, NULL
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = 'seawall_grants' AND evtenabled = 'A');

REVOKE ALL ON seawall.grant_drift FROM PUBLIC;
GRANT SELECT ON seawall.grant_drift TO seawall_owner, seawall_app, seawall_backup, seawall_monitor;
