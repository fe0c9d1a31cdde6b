INSERT INTO tailrace_deadletter
    (backend, shard, measurement, reason, events, payload, frame, entry_id, minute, parked_at, attempts)
SELECT
    %(backend)s, %(shard)s, measurement, reason, events, payload::jsonb, frame, entry_id, minute, now(), 0
FROM unnest(
    %(measurements)s::text[], %(reasons)s::text[], %(events)s::int[], %(payloads)s::text[],
    %(frames)s::bytea[], %(entry_ids)s::text[], %(minutes)s::bigint[]
) AS letter (measurement, reason, events, payload, frame, entry_id, minute)
