INSERT INTO tailrace_producermark
    (backend, shard, producer, sequence, sent, unsent, before, is_last, updated_at)
SELECT
    %(backend)s, %(shard)s, producer, sequence, sent::jsonb, unsent::jsonb, before::jsonb, is_last, now()
FROM unnest(
    %(producers)s::text[], %(sequences)s::bigint[], %(sent)s::text[], %(unsent)s::text[],
    %(before)s::text[], %(is_last)s::boolean[]
) AS mark (producer, sequence, sent, unsent, before, is_last)
ORDER BY producer
ON CONFLICT (backend, shard, producer) DO UPDATE SET
    sequence = excluded.sequence,
    sent = excluded.sent,
    unsent = excluded.unsent,
    is_last = excluded.is_last,
    updated_at = excluded.updated_at
