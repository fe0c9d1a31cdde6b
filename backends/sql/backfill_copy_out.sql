COPY (
    SELECT uid, time, measurement::text, trace_id::text, tags, fields
    FROM tailrace_event
    WHERE measurement = {measurement} AND time >= {start} AND time < {end}
) TO STDOUT (FORMAT binary)
