-- Ends the transaction: keeps it when something differs and this is no check; prints one JSON string for each difference.
CREATE TEMP TABLE changes ON COMMIT DROP AS
  SELECT coalesce(later.object, earlier.object)
         || CASE WHEN earlier.object IS NULL THEN ': created' WHEN later.object IS NULL THEN ': removed' ELSE ': changed' END AS change
  FROM state_before AS earlier FULL JOIN pg_temp.state() AS later USING (object)
  WHERE earlier.value IS DISTINCT FROM later.value;
SELECT to_json(change) FROM changes ORDER BY change;
SELECT count(*) > 0 AND NOT :'check'::boolean AS keep FROM changes \gset
\if :keep
COMMIT;
\else
ROLLBACK;
\endif
