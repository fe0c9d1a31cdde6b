SELECT job_id
FROM timescaledb_information.jobs
WHERE hypertable_schema = %(schema)s AND hypertable_name = %(table)s AND proc_name = ANY (%(kinds)s)
