SELECT {add}(
    %(oid)s::regclass,
    make_interval(months => %(months)s, days => %(days)s, secs => %(seconds)s)
)
