"""Events and readings in TimescaleDB."""

from __future__ import annotations

from .postgres import PostgresBackend
from .timescale_operations import CreateHypertable

__all__ = ["CreateHypertable", "TimescaleDBBackend"]


class TimescaleDBBackend(PostgresBackend):
    """Under construction."""
