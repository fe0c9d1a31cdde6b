-- Those that can be written.
SELECT attname
FROM pg_attribute
WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
