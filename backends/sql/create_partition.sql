-- Not PARTITION OF: that locks the parent against everything; ATTACH lets reads and writes pass.
CREATE TABLE {partition} (LIKE tailrace_event INCLUDING DEFAULTS INCLUDING STORAGE)
