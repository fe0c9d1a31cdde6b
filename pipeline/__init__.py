"""From a recorded event to a drained one. Knows no Django."""

from __future__ import annotations

from .context import suppress_recording
from .recording import flush, record, timed

__all__ = ["flush", "record", "suppress_recording", "timed"]
