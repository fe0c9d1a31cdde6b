COPY tailrace_event (uid, time, measurement, trace_id, tags, fields)
FROM STDIN (FORMAT binary)
