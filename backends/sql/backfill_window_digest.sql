SELECT
    count(*),
    coalesce(sum({hash}), 0)
FROM tailrace_event
WHERE measurement = %(measurement)s AND time >= %(start)s AND time < %(end)s
