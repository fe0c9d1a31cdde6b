ALTER TABLE tailrace_event DETACH PARTITION {partition}
