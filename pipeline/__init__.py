"""From a recorded event to a drained one. Knows no Django."""

from __future__ import annotations

from .context import suppress_recording
from .readings import record_model, store_reading
from .recording import flush, record, timed

__all__ = ["flush", "record", "record_model", "store_reading", "suppress_recording", "timed"]
