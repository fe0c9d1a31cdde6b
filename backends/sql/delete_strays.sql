DELETE FROM {partition}
WHERE ctid = ANY (ARRAY(SELECT ctid FROM {partition} WHERE time < %s LIMIT %s))
