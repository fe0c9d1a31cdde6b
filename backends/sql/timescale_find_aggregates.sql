-- The continuous aggregates of a hypertable that read in real time, and what we noted of each.
SELECT
    c.view_schema,
    c.view_name,
    obj_description(k.oid, 'pg_class'),
    i.mat_hypertable_id,
    i.raw_hypertable_id
FROM timescaledb_information.continuous_aggregates AS c
JOIN pg_namespace AS n ON n.nspname = c.view_schema
JOIN pg_class AS k ON k.relnamespace = n.oid AND k.relname = c.view_name
JOIN _timescaledb_catalog.continuous_agg AS i
    ON i.user_view_schema = c.view_schema AND i.user_view_name = c.view_name
WHERE c.hypertable_schema = %(schema)s AND c.hypertable_name = %(table)s
    AND (%(name)s::text IS NULL OR c.view_name = %(name)s)
ORDER BY c.view_schema, c.view_name
