SELECT conrelid::regclass::text, conname
FROM pg_constraint
WHERE confrelid = %(oid)s AND contype = 'f' AND conparentid = 0
ORDER BY 1, 2
