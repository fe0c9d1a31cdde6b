-- Not those of NOT NULL ('n', from PostgreSQL 18 on): they are copied with the columns.
SELECT conname, contype::text, pg_get_constraintdef(oid)
FROM pg_constraint
WHERE conrelid = %(oid)s AND contype IN ('c', 'f', 'p', 'u', 'x') AND conparentid = 0
ORDER BY contype <> 'p', conname
