-- Indexes, with what they stand for: a constraint, or nothing but themselves.
SELECT
    c.relname,
    pg_get_indexdef(c.oid),
    i.indisprimary,
    i.indisunique OR coalesce(k.contype = 'x', false),
    k.conname IS NOT NULL,
    ARRAY(
        SELECT a.attname
        FROM unnest(i.indkey) WITH ORDINALITY AS at (number, place)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = at.number
        WHERE at.place <= i.indnkeyatts
        ORDER BY at.place
    )::text[],
    obj_description(k.oid, 'pg_constraint')
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
WHERE i.indrelid = %(oid)s
ORDER BY c.relname
