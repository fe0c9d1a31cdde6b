SELECT EXISTS (
    SELECT FROM tailrace_event
    WHERE measurement = %(measurement)s AND time >= %(start)s AND time < %(end)s
)
