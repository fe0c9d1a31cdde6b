"""Queries as values. Making one checks all of its arguments; nothing is checked later.

Errors are ``ValueError``, and say what can be asked instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import Enum
from typing import Any

from tailrace.pipeline.event import KEY_MAX_CHARS, MEASUREMENT_MAX_CHARS
from tailrace.pipeline.interval import Interval, aware, parse_interval, parse_zone

from .columns import TIME, ReadingSchema

FUNCTIONS = ("avg", "min", "max", "sum", "count", "p50", "p75", "p90", "p95", "p99")
FILLS = ("null", 0, "previous")
ROWS_MAX_FILLED = 100_000
"""Buckets in the window, when empty ones are filled."""
LIST_MAX = 1_000
"""Names or values in one list."""
DEVICE_TAG = "device_id"
_RESERVED = ("bucket", "result")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_MICROSECOND = timedelta(microseconds=1)

Filters = Mapping[Any, tuple[Any, ...]]
"""What is asked of tags, by name; of a model, by Django field."""


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
        names = _names(fields, "fields")
        if names is not None and isinstance(source, ReadingSchema):
            names = tuple(source.column(name).attname for name in names)
        return cls(
            source=source,
            window=Window.make(start, end),
            tags=make_filters(source, tags),
            fields=names,
            limit=_limit(limit),
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
        names = _names(fields, "fields")
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
            limit=_limit(limit),
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
    ) -> AggregateQuery:
        """Check what a caller gave."""
        source = make_source(measurement_or_model)
        if not isinstance(function, str) or function not in FUNCTIONS:
            raise ValueError(
                f"function {function!r:.80} is not known; there are: {', '.join(FUNCTIONS)}"
            )
        made = cls(
            source=source,
            field=_field(source, field, function),
            function=function,
            window=Window.make(start, end),
            interval=None if interval is None else parse_interval(interval),
            group_by=_groups(source, group_by),
            tags=_with_device(source, make_filters(source, tags), device),
            zone=parse_zone(tz),
            fill=_fill(fill),
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


def make_source(measurement_or_model: Any) -> str | ReadingSchema:
    """Return a measurement's name, checked, or a model's schema."""
    if isinstance(measurement_or_model, str):
        return clean_text(measurement_or_model, "measurement", MEASUREMENT_MAX_CHARS)
    return ReadingSchema(measurement_or_model)


def make_filters(source: str | ReadingSchema, tags: Any) -> dict[Any, tuple[Any, ...]]:
    """Return what is asked of tags or columns, each as a tuple of the values it may have."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise ValueError(f"tags is {tags!r:.80}; write {{name: value}} or {{name: [values]}}")
    _bound(tags, "tags")
    filters: dict[Any, tuple[Any, ...]] = {}
    for name, wanted in tags.items():
        several = isinstance(wanted, list | tuple | set | frozenset)
        values = _bound(wanted, f"tags[{name!r:.80}]") if several else (wanted,)
        if isinstance(source, ReadingSchema):
            column = source.grouped(name)
            filters[column] = tuple(source.value(column, value) for value in values)
        else:
            key = clean_text(name, "a tag's name", KEY_MAX_CHARS)
            filters[key] = tuple(_tag_value(key, value) for value in values)
    return filters


def clean_text(value: Any, what: str, max_chars: int | None = None) -> str:
    """Return a text that a database can hold.

    Args:
        value: What a caller gave.
        what: What it is, for the error.
        max_chars: How long it may be.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r:.80}; write a text")
    if not value and max_chars:
        raise ValueError(f"{what} is empty")
    if max_chars is not None and len(value) > max_chars:
        raise ValueError(f"{what} has {len(value)} characters; no more than {max_chars} can be")
    if _UNSTORABLE.search(value):
        raise ValueError(
            f"{what} {value!r:.80} has a NUL or half a character in it, which none has"
        )
    return str(value)


def _field(source: str | ReadingSchema, field: Any, function: str) -> str | None:
    if field is None:
        if function != "count":
            raise ValueError(f"{function} needs a field; only 'count' can do without")
        return None
    if isinstance(source, str):
        return clean_text(field, "field", KEY_MAX_CHARS)
    if function != "count":
        source.kind(field)
    attname: str = source.column(field).attname
    return attname


def _groups(source: str | ReadingSchema, group_by: Any) -> tuple[str, ...]:
    names = _names(group_by, "group_by") or ()
    for name in names:
        if name in _RESERVED:
            raise ValueError(f"group_by has {name!r}, which is what the rows call something else")
        if isinstance(source, ReadingSchema):
            source.grouped(name)
    return names


def _names(names: Any, what: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str | bytes | Mapping) or not isinstance(names, Iterable):
        raise ValueError(f"{what} is {names!r:.80}; write a list of names")
    listed = _bound(names, what)
    return tuple(
        dict.fromkeys(clean_text(name, f"a name in {what}", KEY_MAX_CHARS) for name in listed)
    )


def _bound(values: Any, what: str) -> Sequence[Any]:
    listed = list(values)
    if len(listed) > LIST_MAX:
        raise ValueError(f"{what} has {len(listed)} entries; at most {LIST_MAX} can be asked for")
    return listed


def _limit(limit: Any) -> int | None:
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ValueError(f"limit is {limit!r:.80}; write a number of at least 0")
    return min(limit, 2**62)


def _fill(fill: Any) -> str | int | None:
    if fill is None:
        return None
    for known in FILLS:
        if type(fill) is type(known) and fill == known:
            return known
    raise ValueError(f"fill is {fill!r:.80}; write None, 'null', 0 or 'previous'")


def _tag_value(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, int | float):
        value = str(value)  # as record() stores it
    return clean_text(value, f"tags[{name!r:.80}]")


def _with_device(source: str | ReadingSchema, filters: dict[Any, Any], device: Any) -> Filters:
    if device is None:
        return filters
    if isinstance(source, ReadingSchema):
        name, value = source.device, source.device_id(device)
    else:
        name = DEVICE_TAG
        value = _tag_value(DEVICE_TAG, getattr(device, "pk", device))
    asked = filters.get(name, (value,))
    return {**filters, name: tuple(each for each in asked if each == value)}


def zone_is_fixed(zone: tzinfo) -> bool:
    """Return whether a zone has one offset for all time, as far as one can see."""
    return isinstance(zone, type(UTC))
