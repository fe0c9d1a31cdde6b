"""The ends of a backfill on each backend: where events are read, and where they are written."""
