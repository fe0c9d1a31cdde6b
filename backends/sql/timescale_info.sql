SELECT
    h.hypertable_name,
    h.num_chunks::int,
    h.compression_enabled,
    s.table_bytes,
    s.index_bytes,
    s.toast_bytes,
    s.total_bytes,
    pg_size_pretty(s.total_bytes)
FROM timescaledb_information.hypertables AS h
CROSS JOIN LATERAL (
    SELECT
        sum(table_bytes)::bigint AS table_bytes,
        sum(index_bytes)::bigint AS index_bytes,
        sum(toast_bytes)::bigint AS toast_bytes,
        sum(total_bytes)::bigint AS total_bytes
    FROM {hypertable_detailed_size}(%(oid)s::regclass)
) AS s
WHERE h.hypertable_schema = %(schema)s AND h.hypertable_name = %(table)s
