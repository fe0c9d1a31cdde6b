SELECT {add}(
    %(view)s::regclass,
    start_offset => %(start)s::interval,
    end_offset => %(end)s::interval,
    schedule_interval => %(schedule)s::interval
)
