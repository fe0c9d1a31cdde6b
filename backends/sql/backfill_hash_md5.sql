('x' || left(md5(
    uuid_send(uid) || timestamptz_send(time) || textsend(measurement::text)
    || textsend(trace_id::text) || jsonb_send(tags) || jsonb_send(fields)
), 16))::bit(64)::bigint
