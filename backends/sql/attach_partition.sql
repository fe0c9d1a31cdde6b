ALTER TABLE tailrace_event ATTACH PARTITION {partition} FOR VALUES FROM ({lower}) TO ({upper})
