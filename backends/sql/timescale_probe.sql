SELECT
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
    (SELECT nspname FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace
     WHERE extname = 'timescaledb'),
    current_setting('timescaledb.license', true),
    EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
