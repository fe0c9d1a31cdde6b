-- Of what the target has of the slice; there may be more in the window.
SELECT
    count(*),
    coalesce(sum({hash}), 0)
FROM tailrace_event
WHERE measurement = %(measurement)s AND time >= %(start)s AND time < %(end)s
    AND uid IN (SELECT uid FROM pg_temp.tailrace_slice)
