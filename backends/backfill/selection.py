"""What is moved: a measurement or a model of readings, within a window of time."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from tailrace.backends.written_models import is_reading, written_models
from tailrace.pipeline.backfill.contracts import BackfillRefused, Slice

SLICE_ROWS = 10_000
"""In memory at once, and in one transaction: a second or so."""


class Window(NamedTuple):
    """Half-open; a bound that is ``None`` is none."""

    start: datetime | None
    end: datetime | None

    @property
    def text(self) -> str:
        """For people."""
        return f"{_short(self.start, 'the beginning')} to {_short(self.end, 'the end')}"


class Selection(NamedTuple):
    """A measurement's events, or a model's readings."""

    measurement: str
    window: Window
    slice_rows: int = SLICE_ROWS

    @property
    def model(self) -> Any:
        """The model of readings that has this measurement's rows, or ``None``."""
        model = written_models().get(self.measurement)
        if model is not None and not is_reading(model):
            raise BackfillRefused(
                f"{model._meta.label} is no model of readings: its rows have no time to cut by"
            )
        return model

    @classmethod
    def make(
        cls, name: str, start: datetime | None, end: datetime | None, slice_rows: int = SLICE_ROWS
    ) -> Selection:
        """Return what a person's words mean.

        Args:
            name: A measurement, or a model as ``app_label.ModelName``.
            start: First instant.
            end: First instant that does not belong any more.
            slice_rows: Rows in a step, about.

        Raises:
            BackfillRefused: the window is empty.
        """
        if start is not None and end is not None and start >= end:
            raise BackfillRefused(f"the window is empty: {start} is not before {end}")
        for measurement, model in written_models().items():
            if name.lower() == model._meta.label_lower:
                return cls(measurement, Window(start, end), slice_rows)
        return cls(name, Window(start, end), slice_rows)


def window_slice(window: Window, rows: int) -> Slice:
    """Return the slice of a window whose bounds are both there."""
    assert None not in window, "a slice has both bounds"
    spec = {"start": str(window.start), "end": str(window.end)}
    return Slice(label=window.text, rows=rows, spec=spec)


def window_of(slice_: Slice) -> Window | None:
    """Return the window of a slice; ``None`` if its source does not cut by time."""
    spec = slice_.spec
    if "start" not in spec or "end" not in spec:
        return None
    return Window(datetime.fromisoformat(spec["start"]), datetime.fromisoformat(spec["end"]))


def _short(moment: datetime | None, otherwise: str) -> str:
    if moment is None:
        return otherwise
    return moment.strftime("%Y-%m-%d %H:%M:%S") + (
        f".{moment.microsecond:06}" * bool(moment.microsecond)
    )
