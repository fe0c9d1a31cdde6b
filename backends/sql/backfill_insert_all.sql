INSERT INTO tailrace_event (uid, time, measurement, trace_id, tags, fields)
SELECT uid, time, measurement, trace_id, tags, fields
FROM pg_temp.tailrace_slice
