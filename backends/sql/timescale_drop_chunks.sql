-- Chunks that lie in a range of time.
SELECT {drop_chunks}(
    %(relation)s::regclass,
    older_than => %(before)s::timestamptz,
    newer_than => %(start)s::timestamptz
)
