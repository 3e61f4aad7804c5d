-- Tables that an interrupted run, a restore or a hand has left with other grants. What has no class cannot be mended here:
-- nobody but its owner can use it, and the migration, which can rename it, refuses to end while it is there.
DO $$
DECLARE
  mendable record;
BEGIN
  FOR mendable IN
    SELECT to_regclass(object) AS relation, bool_or(what = 'append-only trigger missing or off') AS trigger_wrong FROM seawall.grant_drift
    WHERE what IN ('missing grant', 'extra grant', 'column grant', 'append-only trigger missing or off')
      AND object NOT IN (SELECT object FROM seawall.grant_drift WHERE what IN ('no class', 'part of another class'))
    GROUP BY object
  LOOP
    IF mendable.trigger_wrong THEN
      EXECUTE format('DROP TRIGGER IF EXISTS seawall_append_only ON %s', mendable.relation);
    END IF;
    PERFORM seawall.apply_grants(mendable.relation);
  END LOOP;
END $$;

SELECT to_json(concat_ws(' ', what || ':', object, grantee, privilege)) FROM seawall.grant_drift ORDER BY object, what, privilege \g :drift_file
