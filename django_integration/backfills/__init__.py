"""Backfills on Django: their records, the kinds there are, and what pages and commands call."""
