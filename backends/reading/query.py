"""Queries as values. Making one checks all of its arguments; nothing is checked later.

Errors are ``ValueError``, and say what can be asked instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from tailrace.pipeline.interval import Interval, aware, parse_interval, parse_zone

from .arguments import (
    FUNCTIONS,
    ROWS_MAX_FILLED,
    Filters,
    clean_text,
    make_field,
    make_fill,
    make_filters,
    make_groups,
    make_limit,
    make_names,
    make_source,
    with_device,
)
from .columns import TIME, ReadingSchema

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Window:
    """A half-open stretch of time in UTC."""

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def make(cls, start: Any, end: Any) -> Window:
        """Check what a caller gave."""
        first = None if start is None else aware(start, "start")
        last = None if end is None else aware(end, "end")
        if first is not None and last is not None and first >= last:
            raise ValueError(
                f"start {first.isoformat()} is not before end {last.isoformat()}; the window is "
                "half-open, its end does not belong to it"
            )
        return cls(first, last)

    def __contains__(self, moment: datetime) -> bool:
        return (self.start is None or moment >= self.start) and (
            self.end is None or moment < self.end
        )

    @property
    def last(self) -> datetime | None:
        """The last microsecond in it."""
        return None if self.end is None else self.end - _MICROSECOND


@dataclass(frozen=True, kw_only=True)
class EventQuery:
    """What :meth:`Reader.query` was asked."""

    source: str | ReadingSchema
    window: Window
    tags: Filters
    fields: tuple[str, ...] | None
    limit: int | None
    descending: bool
    trace_id: str | None

    @classmethod
    def make(
        cls,
        measurement_or_model: Any,
        *,
        start: Any = None,
        end: Any = None,
        tags: Any = None,
        fields: Any = None,
        limit: Any = None,
        order: Any = "-time",
        trace_id: Any = None,
    ) -> EventQuery:
        """Check what a caller gave."""
        source = make_source(measurement_or_model)
        if order not in ("time", "-time"):
            raise ValueError(f"order is {order!r:.80}; write 'time' or '-time'")
        names = make_names(fields, "fields")
        if names is not None and isinstance(source, ReadingSchema):
            names = tuple(source.column(name).attname for name in names)
        return cls(
            source=source,
            window=Window.make(start, end),
            tags=make_filters(source, tags),
            fields=names,
            limit=make_limit(limit),
            descending=order == "-time",
            trace_id=None if trace_id is None else clean_text(trace_id, "trace_id", 64),
        )


@dataclass(frozen=True, kw_only=True)
class ReadingQuery:
    """What :meth:`Reader.query_readings` was asked."""

    schema: ReadingSchema
    device_id: Any
    window: Window
    fields: dict[str, Any]
    """Django fields by the names that the caller gave."""
    limit: int | None
    order: Any
    descending: bool

    @classmethod
    def make(
        cls,
        reading_model: Any,
        device: Any = None,
        start: Any = None,
        end: Any = None,
        fields: Any = None,
        limit: Any = None,
        order: Any = f"-{TIME}",
    ) -> ReadingQuery:
        """Check what a caller gave."""
        schema = ReadingSchema(reading_model)
        names = make_names(fields, "fields")
        if names is None:
            columns = {column.attname: column for column in schema.values}
        else:
            columns = {name: schema.column(name) for name in names}
        column, descending = schema.ordered(order)
        return cls(
            schema=schema,
            device_id=None if device is None else schema.device_id(device),
            window=Window.make(start, end),
            fields=columns,
            limit=make_limit(limit),
            order=column,
            descending=descending,
        )


@dataclass(frozen=True, kw_only=True)
class AggregateQuery:
    """What :meth:`Reader.aggregate` was asked."""

    source: str | ReadingSchema
    field: str | None
    function: str
    window: Window
    interval: Interval | None
    group_by: tuple[str, ...]
    tags: Filters
    zone: tzinfo
    fill: str | int | None
    use_rollups: bool = True
    """Whether what was computed before may be used; backends without rollups ignore it."""

    @property
    def percent(self) -> int | None:
        """95 of ``p95``; ``None`` of functions that are no percentile."""
        return int(self.function[1:]) if self.function[1:].isdigit() else None

    @classmethod
    def make(
        cls,
        measurement_or_model: Any,
        field: Any,
        function: Any = "avg",
        device: Any = None,
        start: Any = None,
        end: Any = None,
        interval: Any = None,
        group_by: Any = None,
        tags: Any = None,
        tz: Any = None,
        fill: Any = None,
        use_rollups: Any = True,
    ) -> AggregateQuery:
        """Check what a caller gave."""
        source = make_source(measurement_or_model)
        if not isinstance(function, str) or function not in FUNCTIONS:
            raise ValueError(
                f"function {function!r:.80} is not known; there are: {', '.join(FUNCTIONS)}"
            )
        if not isinstance(use_rollups, bool):
            raise ValueError(f"use_rollups is {use_rollups!r:.80}; write True or False")
        made = cls(
            source=source,
            field=make_field(source, field, function),
            function=function,
            window=Window.make(start, end),
            interval=None if interval is None else parse_interval(interval),
            group_by=make_groups(source, group_by),
            tags=with_device(source, make_filters(source, tags), device),
            zone=parse_zone(tz),
            fill=make_fill(fill),
            use_rollups=use_rollups,
        )
        made._check_fill()
        return made

    def _check_fill(self) -> None:
        if self.fill is None:
            return
        start, end = self.window.start, self.window.end
        if self.interval is None or start is None or end is None:
            raise ValueError("fill needs interval, start and end: they say which buckets there are")
        width = timedelta(days=30) * self.interval.months or self.interval.as_timedelta()
        if (end - start) / width > ROWS_MAX_FILLED:
            raise ValueError(
                f"fill would make more than {ROWS_MAX_FILLED:,} buckets of {self.interval}; ask "
                "for a wider interval or a shorter window"
            )
