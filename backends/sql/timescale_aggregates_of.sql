SELECT view_schema, view_name
FROM timescaledb_information.continuous_aggregates
WHERE hypertable_schema = %(schema)s AND hypertable_name = %(table)s
ORDER BY 1, 2
