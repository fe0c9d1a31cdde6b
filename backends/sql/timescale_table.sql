-- One row: the table that the name means on this connection's search_path, and its time column.
SELECT
    c.oid,
    n.nspname,
    c.relname,
    c.relkind::text,
    format_type(a.atttypid, NULL),
    EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent)),
    EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid),
    pg_get_userbyid(c.relowner)
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute AS a
    ON a.attrelid = c.oid AND a.attname = %(column)s AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = to_regclass(quote_ident(%(table)s))
