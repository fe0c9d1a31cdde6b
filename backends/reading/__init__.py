"""How backends answer queries; ``tailrace.backends.reader`` says what they answer.

``query.py`` checks arguments once, for all backends, by ``arguments.py``; ``columns.py`` knows
models of readings. ``memory.py`` and ``orm.py`` are readers, ``dialects/`` has what differs
between databases, and ``result.py`` makes rows out of what they found.
"""
