"""Which points a question is about: bucket, measurement, window and tags, as Flux."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tailrace.backends.reading.query import Window

from . import flux, stored
from .annotated import Row
from .flux import Flux

Ask = Callable[[str], Iterable[Row]]
"""Sends a text, and returns the answer's rows as they arrive."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
NS_A_MICROSECOND = 1_000


@dataclass(frozen=True)
class Selection:
    """Points of a measurement in a window, with some tags."""

    bucket: str
    condition: Flux
    start_ns: int
    end_ns: int

    @classmethod
    def make(
        cls,
        bucket: str,
        measurement: str,
        window: Window,
        tags: Mapping[str, Sequence[str | None]],
    ) -> Selection | None:
        """Return what was asked for; ``None`` if no point can pass.

        Args:
            bucket: Where they are.
            measurement: Whose, as the event has it.
            window: When; an open end reaches as far as InfluxDB's times do.
            tags: Their values, by name; ``None`` for points without the tag.
        """
        conditions = [flux.is_one_of("_measurement", [stored.measurement(measurement)])]
        for name, wanted in tags.items():
            if not wanted:
                return None
            conditions.append(_passes(stored.tag_key(name), wanted))
        start_ns, end_ns = bounds_ns(window)
        if start_ns >= end_ns:
            return None
        return cls(bucket, flux.all_of(conditions), start_ns, end_ns)

    def within(self, start_ns: int, end_ns: int) -> Selection:
        """Return the part of it that is in a window."""
        return replace(self, start_ns=max(start_ns, self.start_ns), end_ns=min(end_ns, self.end_ns))

    def points(self, *conditions: Flux) -> Flux:
        """Return the pipeline's begin: the points that fulfil further conditions, too."""
        condition = flux.all_of([self.condition, *conditions])
        return flux.pipeline(
            flux.source(self.bucket, self.start_ns, self.end_ns), flux.where(condition)
        )


def of_fields(keys: Sequence[str]) -> Flux:
    """Return the condition that a row is of one of some stored fields."""
    return flux.is_one_of("_field", keys)


def bounds_ns(window: Window) -> tuple[int, int]:
    """Return the window in nanoseconds, cut to the times that a point can have."""
    start_ns = flux.NS_FIRST if window.start is None else to_ns(window.start)
    end_ns = flux.NS_END if window.end is None else to_ns(window.end)
    return max(start_ns, flux.NS_FIRST), min(end_ns, flux.NS_END)


def to_ns(moment: datetime) -> int:
    """Return an aware datetime of any year in nanoseconds."""
    return (moment - _EPOCH) // _MICROSECOND * NS_A_MICROSECOND


def to_datetime(time_ns: int) -> datetime:
    """Return the UTC datetime of a point; the digits below a microsecond are its identity."""
    return _EPOCH + timedelta(microseconds=time_ns // NS_A_MICROSECOND)


def edge_ns(ask: Ask, chosen: Selection, condition: Flux, *, descending: bool) -> int | None:
    """Return the time of the first point, or the last; by the index, not by a scan."""
    found = ask(
        flux.program(
            flux.pipeline(
                chosen.points(condition),
                flux.aggregate("last" if descending else "first"),
                flux.keep(["_time"]),
                flux.first_by_time(1, descending=descending),
            )
        )
    )
    return next(times_ns(found), None)


def times_ns(rows: Iterable[Row]) -> Any:
    """Yield the times of rows."""
    for block, cells in rows:
        yield block.value(cells, "_time")


def _passes(key: str, wanted: Sequence[str | None]) -> Flux:
    values = [stored.tag_value(each) for each in wanted if each is not None]
    conditions = [flux.is_one_of(key, values)] if values else []
    if len(values) < len(wanted):
        conditions.append(flux.is_missing(key))
    return flux.any_of(conditions)
