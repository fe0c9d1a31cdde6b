SELECT shard, position, epoch, created_ns
FROM tailrace_shardcheckpoint
WHERE backend = %s AND shard = %s
FOR UPDATE
