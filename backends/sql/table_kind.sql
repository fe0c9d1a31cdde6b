-- 'p' is a partitioned table, 'r' an ordinary one, no row: there is no such table
SELECT relkind::text FROM pg_class WHERE oid = to_regclass('tailrace_event')
