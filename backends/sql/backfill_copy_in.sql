COPY pg_temp.tailrace_slice (uid, time, measurement, trace_id, tags, fields)
FROM STDIN (FORMAT binary)
