"""Queries over events in memory. Plain Python, to be read beside the SQL that does the same."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tailrace.backends.reader import Reader
from tailrace.pipeline.event import Event
from tailrace.pipeline.interval import Buckets

from .columns import TIME, ReadingSchema
from .query import AggregateQuery, EventQuery, ReadingQuery
from .result import (
    Found,
    answer,
    interpolated,
    mean,
    plain_fields,
    plain_number,
    reading_as_event,
    total,
)

Record = tuple[datetime, Mapping[str, Any], Mapping[str, Any]]
"""Time, what to group and filter by, what to compute with."""


class MemoryReader(Reader):
    """Reads what :meth:`stored_events` and :meth:`stored_readings` return."""

    def stored_events(self, measurement: str) -> Iterable[Event]:
        """Return the events of a measurement, in any order."""
        raise self._not_supported("stored_events")

    def stored_readings(self, model: type) -> Iterable[Mapping[str, Any]]:
        """Return a model's readings, in any order, each with the ``attname`` of its columns."""
        raise self._not_supported("stored_readings")

    def query(self, measurement_or_model: Any, **options: Any) -> list[dict[str, Any]]:
        asked = EventQuery.make(measurement_or_model, **options)
        source = asked.source
        rows: list[tuple[dict[str, Any], Mapping[str, Any]]]
        if isinstance(source, ReadingSchema):
            rows = [
                (reading_as_event(source, each, asked.fields), each)
                for each in self._readings(source)
            ]
        else:
            rows = [_event(each, asked) for each in self.stored_events(source)]
        wanted = [
            row
            for row, tags in rows
            if row["time"] in asked.window
            and (asked.trace_id is None or row["trace_id"] == asked.trace_id)
            and _passes(tags, asked.tags)
        ]
        wanted.sort(key=lambda row: (row["time"], _sortable(row["id"])), reverse=asked.descending)
        return wanted[: asked.limit]

    def query_readings(
        self, reading_model: type, *args: Any, **options: Any
    ) -> list[dict[str, Any]]:
        asked = ReadingQuery.make(reading_model, *args, **options)
        schema = asked.schema
        device = schema.device.attname if schema.device is not None else "device_id"
        rows = [
            row
            for row in self._readings(schema)
            if row[TIME] in asked.window
            and (asked.device_id is None or row.get(device) == asked.device_id)
        ]
        pk = schema.model._meta.pk.attname
        rows.sort(
            key=lambda row: (row[TIME], row.get(device), row.get(pk)), reverse=asked.descending
        )
        name = asked.order.attname
        empty = [row for row in rows if row.get(name) is None]
        rows = [row for row in rows if row.get(name) is not None]
        rows.sort(key=lambda row: row[name], reverse=asked.descending)
        return [
            {"device_id": row.get(device), "timestamp": row[TIME]}
            | {key: row.get(column.attname) for key, column in asked.fields.items()}
            for row in (rows + empty)[: asked.limit]
        ]

    def aggregate(self, measurement_or_model: Any, field: Any, *args: Any, **options: Any) -> Any:
        asked = AggregateQuery.make(measurement_or_model, field, *args, **options)
        records = [each for each in self._records(asked) if each[0] in asked.window]
        times = [moment for moment, _, _ in records]
        window = asked.window
        low, high = window.start, window.last
        if times and (asked.interval is None or asked.fill is None):
            low, high = min(times), max(times)
        buckets = None
        if asked.interval is not None and low is not None and high is not None:
            buckets = Buckets(asked.interval, asked.zone, low, high)
        return answer(asked, _computed(asked, records, buckets), buckets)

    def _records(self, asked: AggregateQuery) -> Iterable[Record]:
        source = asked.source
        if isinstance(source, ReadingSchema):
            records = [(row[TIME], row, row) for row in self._readings(source)]
        else:
            records = [(each.time, each.tags, each.fields) for each in self.stored_events(source)]
        return [each for each in records if _passes(each[1], asked.tags)]

    def _readings(self, schema: ReadingSchema) -> list[dict[str, Any]]:
        rows = []
        for row in self.stored_readings(schema.model):
            rows.append({**row, TIME: row[TIME].astimezone(UTC)})
        return rows


def _computed(
    asked: AggregateQuery, records: Iterable[Record], buckets: Buckets | None
) -> Iterable[Found]:
    values: dict[Any, list[Any]] = defaultdict(list)
    starts: dict[datetime, datetime] = {}
    names = _columns(asked)
    for moment, tags, fields in records:
        value = 1 if asked.field is None else fields.get(asked.field)
        if value is None or (asked.function != "count" and _number(value) is None):
            continue
        bucket = None
        if buckets is not None:
            start = buckets.start_of(moment)
            bucket = start.astimezone(UTC)
            starts[bucket] = start
        values[bucket, tuple(tags.get(name) for name in names)].append(value)
    for (bucket, group), listed in values.items():
        stamp = None if bucket is None else starts[bucket]
        yield Found(stamp, group, _function(asked)(listed))


def _columns(asked: AggregateQuery) -> list[str]:
    if isinstance(asked.source, ReadingSchema):
        return [asked.source.column(name).attname for name in asked.group_by]
    return list(asked.group_by)


def _function(asked: AggregateQuery) -> Callable[[list[Any]], Any]:
    percent = asked.percent
    if percent is not None:
        return lambda values: _percentile([float(_number(each) or 0) for each in values], percent)
    functions: dict[str, Callable[[list[Any]], Any]] = {
        "count": len,
        "min": lambda values: _extreme(min, values),
        "max": lambda values: _extreme(max, values),
        "sum": lambda values: _sums(total, values),
        "avg": lambda values: _sums(
            lambda whole, others, floats: mean(whole, others, len(values), floats), values
        ),
    }
    return functions[asked.function]


def _number(value: Any) -> Any:
    return value if isinstance(value, Decimal) else plain_number(value)


def _percentile(values: list[float], percent: int) -> float:
    values.sort()
    place = percent * (len(values) - 1) // 100
    return interpolated(
        values[place], values[min(place + 1, len(values) - 1)], percent, len(values)
    )


def _extreme(function: Callable[[list[Any]], Any], values: list[Any]) -> Any:
    numbers = [_number(each) for each in values]
    found = function(numbers)
    return float(found) if any(isinstance(each, float) for each in numbers) else found


def _sums(finish: Callable[[int, Any, int], Any], values: list[Any]) -> Any:
    numbers = [_number(each) for each in values]
    if any(isinstance(each, Decimal) for each in numbers):
        exact = sum(numbers, Decimal(0))
        return exact if finish is total else float(exact / len(numbers))
    floats = [each for each in numbers if isinstance(each, float)]
    try:
        others = math.fsum(floats)
    except OverflowError:  # on the way, or at the end
        others = sum(floats)
    return finish(sum(each for each in numbers if isinstance(each, int)), others, len(floats))


def _passes(tags: Mapping[str, Any], asked: Mapping[Any, tuple[Any, ...]]) -> bool:
    return all(tags.get(getattr(name, "attname", name)) in wanted for name, wanted in asked.items())


def _sortable(key: Any) -> Any:
    return (0, int(key), "") if isinstance(key, str) and key.isdecimal() else (1, 0, key or "")


def _event(event: Event, asked: EventQuery) -> tuple[dict[str, Any], Mapping[str, Any]]:
    row = event.as_dict()
    row["tags"] = dict(row["tags"])
    row["fields"] = plain_fields(row["fields"], asked.fields)
    row["trace_id"] = row["trace_id"] or None
    return row, event.tags
