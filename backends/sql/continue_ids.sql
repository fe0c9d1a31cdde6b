SELECT setval(
    pg_get_serial_sequence('tailrace_event', 'id'),
    coalesce((SELECT max(id) FROM tailrace_event_past), 0) + 1,
    false
)
