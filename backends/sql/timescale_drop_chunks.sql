SELECT {drop_chunks}(%(relation)s::regclass, older_than => %(before)s::timestamptz)
