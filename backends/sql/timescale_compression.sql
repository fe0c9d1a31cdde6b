SELECT
    coalesce(sum(number_compressed_chunks), 0)::int,
    sum(before_compression_total_bytes)::bigint,
    sum(after_compression_total_bytes)::bigint
FROM {hypertable_compression_stats}(%(oid)s::regclass)
