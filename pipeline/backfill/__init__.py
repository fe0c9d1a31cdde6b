"""Backfills: history that is copied, recomputed, imported, exported or replayed.

A backfill is a plan of steps. Each step is idempotent and commits its rows with its result,
so that any number of workers on any number of hosts may take steps, die in the middle, or do
one twice, and the outcome is the same.

- ``contracts.py``: what a kind, a source and a sink are. Read this before you write one.
- ``parameters.py``: what a kind asks for, as a command and as a form.
- ``transfer.py``: the kind that reads events from a source and writes them to a sink.
- ``digest.py``: counts and checksums of a slice, whatever the order of its events.
- ``engine.py``: takes steps and runs them; ``planner.py``: makes them; ``throttle.py``: lets
  live traffic go first. They know no database: ``store.py`` says what they need of one.
"""
