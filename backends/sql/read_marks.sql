-- As text: Django has its own idea of how to load jsonb.
SELECT producer, sequence, sent::text, unsent::text, is_last, before::text
FROM tailrace_producermark
WHERE backend = %s AND shard = %s AND producer = ANY (%s)
