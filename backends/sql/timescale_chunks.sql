-- Chunks that end at or before the moment, the oldest first.
SELECT
    format('%%I.%%I', c.chunk_schema, c.chunk_name),
    k.reltuples::bigint,
    pg_total_relation_size(k.oid),
    c.range_start,
    c.range_end
FROM timescaledb_information.chunks AS c
JOIN pg_namespace AS n ON n.nspname = c.chunk_schema
JOIN pg_class AS k ON k.relnamespace = n.oid AND k.relname = c.chunk_name
WHERE c.hypertable_schema = %(schema)s AND c.hypertable_name = %(table)s
    AND c.range_end <= %(before)s
ORDER BY c.range_end
