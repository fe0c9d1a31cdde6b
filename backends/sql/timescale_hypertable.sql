SELECT column_name, column_type::text
FROM timescaledb_information.dimensions
WHERE hypertable_schema = %(schema)s AND hypertable_name = %(table)s AND dimension_number = 1
