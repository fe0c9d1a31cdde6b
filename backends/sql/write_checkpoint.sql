UPDATE tailrace_shardcheckpoint
SET position = %s, epoch = %s, updated_at = now()
WHERE backend = %s AND shard = %s
