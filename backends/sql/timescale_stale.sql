-- Where rows have changed, or come, since a continuous aggregate was refreshed: both ends
-- belong to it, in microseconds since 1970.
SELECT lowest_modified_value, greatest_modified_value
FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log
WHERE materialization_id = %(materialized)s
UNION ALL
SELECT lowest_modified_value, greatest_modified_value
FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log
WHERE hypertable_id = %(raw)s
