"""Rollups: how they are computed, kept up to date and read, on every SQL backend.

``ranges.py`` and ``grid.py`` have time and its buckets, ``partial.py`` what is known of one of
them, ``statement.py`` computes partials of rows, ``reading.py`` answers questions from what is
kept.
"""
