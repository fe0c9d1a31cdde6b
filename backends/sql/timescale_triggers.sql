SELECT pg_get_triggerdef(oid)
FROM pg_trigger
WHERE tgrelid = %(oid)s AND NOT tgisinternal
    -- TimescaleDB's own
    AND tgname NOT IN ('ts_insert_blocker', 'ts_cagg_invalidation_trigger')
ORDER BY tgname
