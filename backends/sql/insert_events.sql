-- Arrays of text that the server casts: faster than arrays of jsonb.
INSERT INTO tailrace_event (uid, time, measurement, trace_id, tags, fields)
SELECT uid, time, measurement, trace_id, tags::jsonb, fields::jsonb
FROM unnest(
    %s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[]
) AS event (uid, time, measurement, trace_id, tags, fields)
