"""Backfills on Django: their records, the kinds that there are, and what pages and commands call."""
