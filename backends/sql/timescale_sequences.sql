-- Sequences of the table's columns: of identity columns ('i') and of serial ones ('a').
SELECT a.attname, n.nspname, s.relname, d.deptype = 'i', q.last_value
FROM pg_depend AS d
JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_namespace AS n ON n.oid = s.relnamespace
JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
LEFT JOIN pg_sequences AS q ON q.schemaname = n.nspname AND q.sequencename = s.relname
WHERE d.refobjid = %(oid)s AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
ORDER BY a.attname
