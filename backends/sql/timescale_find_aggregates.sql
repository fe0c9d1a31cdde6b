-- The continuous aggregates of a hypertable, what we noted of each, and where its buckets are.
-- From the catalog: the view timescaledb_information.continuous_aggregates takes ten times as long.
SELECT
    i.user_view_schema,
    i.user_view_name,
    obj_description(k.oid, 'pg_class'),
    i.mat_hypertable_id,
    i.raw_hypertable_id,
    m.schema_name,
    m.table_name
FROM _timescaledb_catalog.continuous_agg AS i
JOIN _timescaledb_catalog.hypertable AS h ON h.id = i.raw_hypertable_id
JOIN _timescaledb_catalog.hypertable AS m ON m.id = i.mat_hypertable_id
JOIN pg_namespace AS n ON n.nspname = i.user_view_schema
JOIN pg_class AS k ON k.relnamespace = n.oid AND k.relname = i.user_view_name
WHERE h.schema_name = %(schema)s AND h.table_name = %(table)s
    AND (%(name)s::text IS NULL OR i.user_view_name = %(name)s)
ORDER BY i.user_view_schema, i.user_view_name
