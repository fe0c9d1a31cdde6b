-- Of what the target has of the slice; there may be more in the window.
SELECT
    count(*),
    coalesce(sum(('x' || left(md5(
        uuid_send(uid) || timestamptz_send(time) || textsend(measurement::text)
        || textsend(trace_id::text) || jsonb_send(tags) || jsonb_send(fields)
    ), 16))::bit(64)::bigint), 0)
FROM tailrace_event
WHERE measurement = %(measurement)s AND time >= %(start)s AND time < %(end)s
    AND uid IN (SELECT uid FROM pg_temp.tailrace_slice)
