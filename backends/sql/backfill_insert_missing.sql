INSERT INTO tailrace_event (uid, time, measurement, trace_id, tags, fields)
SELECT uid, time, measurement, trace_id, tags, fields
FROM pg_temp.tailrace_slice AS slice
WHERE NOT EXISTS (
    SELECT FROM tailrace_event AS there
    WHERE there.measurement = %(measurement)s
        AND there.time >= %(start)s AND there.time < %(end)s
        AND there.uid = slice.uid
)
