SELECT c.relname, pg_get_indexdef(c.oid), i.indisprimary
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass('tailrace_event') AND i.indisvalid
    AND c.relname <> 'tailrace_event_past_pkey'
ORDER BY c.relname
