-- One for each connection, emptied by each commit and each rollback.
CREATE TEMPORARY TABLE IF NOT EXISTS tailrace_slice (
    uid uuid, time timestamptz, measurement text, trace_id text, tags jsonb, fields jsonb
) ON COMMIT DELETE ROWS
