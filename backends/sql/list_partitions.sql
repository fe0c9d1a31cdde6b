-- Bounds are printed and read again by the same session, so its DateStyle and TimeZone
-- cancel out. (Python's years end at 1 and 9999.)
SELECT
    child.relname,
    bound = 'DEFAULT',
    CASE ends[1] WHEN 'MINVALUE' THEN '0001-01-02Z' ELSE trim('''' FROM ends[1]) END::timestamptz,
    CASE ends[2] WHEN 'MAXVALUE' THEN '9999-12-30Z' ELSE trim('''' FROM ends[2]) END::timestamptz,
    link.inhdetachpending,
    child.reltuples::bigint,
    pg_total_relation_size(child.oid)
FROM pg_inherits AS link
JOIN pg_class AS child ON child.oid = link.inhrelid
CROSS JOIN LATERAL pg_get_expr(child.relpartbound, child.oid) AS bound
CROSS JOIN LATERAL (SELECT regexp_match(bound, 'FROM \((.*)\) TO \((.*)\)')) AS found (ends)
WHERE link.inhparent = to_regclass('tailrace_event')
ORDER BY 3 NULLS LAST
