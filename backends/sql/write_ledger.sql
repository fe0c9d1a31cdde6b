INSERT INTO tailrace_ledgerentry AS entry
    (backend, shard, minute, measurement, outcome, amount)
SELECT %(backend)s, %(shard)s, minute, measurement, outcome, amount
FROM unnest(
    %(minutes)s::bigint[], %(measurements)s::text[], %(outcomes)s::text[], %(amounts)s::bigint[]
) AS booked (minute, measurement, outcome, amount)
ON CONFLICT (backend, minute, measurement, outcome, shard) DO UPDATE SET
    amount = entry.amount + excluded.amount
