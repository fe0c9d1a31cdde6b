"""TimescaleDB: what ``timescale.py`` is made of."""
