-- In force since 1.x; by_range() came with 2.13.
SELECT {create}(
    %(relation)s::regclass,
    %(column)s::name,
    chunk_time_interval => make_interval(months => %(months)s, days => %(days)s, secs => %(seconds)s),
    create_default_indexes => %(indexes)s,
    migrate_data => true
)
