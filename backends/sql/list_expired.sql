-- Partitions that were detached to be dropped, by a sweep that did not come to that.
SELECT c.relname, c.reltuples::bigint, pg_total_relation_size(c.oid)
FROM pg_class AS c
WHERE c.relkind = 'r'
    AND NOT c.relispartition
    AND starts_with(c.relname, 'tailrace_event_')
    AND pg_table_is_visible(c.oid)
    AND obj_description(c.oid, 'pg_class') = %s
ORDER BY c.relname
