"""Queries on any database that Django can use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

from django.db import DataError, router
from django.db.models import BooleanField, CharField, F
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast

from tailrace.backends.django_errors import translated_errors
from tailrace.backends.private_connection import private_connection
from tailrace.backends.reader import Reader
from tailrace.backends.rollups.reading import answer_from_rollups
from tailrace.pipeline.interval import Buckets

from .arguments import zone_is_fixed
from .columns import TIME, ReadingSchema, in_utc
from .dialects import Dialect, Sql, dialect_of
from .query import AggregateQuery, EventQuery, ReadingQuery, Window
from .result import (
    DECIMAL_DIGITS,
    Found,
    answer,
    interpolated,
    mean,
    plain_fields,
    reading_as_event,
    total,
)
from .statement import aggregate_statement, tells_apart
from .tables import EventTable, ReadingTable, Table, check_clock

_LONG_WINDOW = timedelta(days=20 * 366)
_MICROSECOND = timedelta(microseconds=1)
_ANY = datetime(2000, 1, 1, tzinfo=UTC)
_EVENT_COLUMNS = ("uid", "measurement", "time", "tags", "fields", "trace_id")


class OrmReader(Reader):
    """Reads with connections of our own, and records nothing of it."""

    aggregate_statement = staticmethod(aggregate_statement)
    """Backends that can have the same columns in a faster way override it."""

    def get_db_alias(self) -> str | None:
        """Return the alias that has the events."""
        raise NotImplementedError

    def reading_alias(self, model: Any) -> str:
        """Return the alias that has a model's readings: the one that its router says."""
        return str(router.db_for_read(model))

    def query(self, measurement_or_model: Any, **options: Any) -> list[dict[str, Any]]:
        asked = EventQuery.make(measurement_or_model, **options)
        with self._table(asked.source) as table:
            if isinstance(table, EventTable):
                return _events(asked, table)
            return _readings_as_events(asked, table)

    def query_readings(
        self, reading_model: type, *args: Any, **options: Any
    ) -> list[dict[str, Any]]:
        asked = ReadingQuery.make(reading_model, *args, **options)
        with self._table(asked.schema) as table:
            return _readings(asked, table)

    def aggregate(self, measurement_or_model: Any, field: Any, *args: Any, **options: Any) -> Any:
        asked = AggregateQuery.make(measurement_or_model, field, *args, **options)
        with self._table(asked.source) as table:
            if asked.use_rollups:
                found = answer_from_rollups(self.alias, asked, table)
                if found is not None:
                    return found
            return self.aggregate_rows(asked, table)

    def aggregate_rows(self, asked: AggregateQuery, table: Any) -> Any:
        """Answer from the rows. Backends that need more around it override it."""
        return _aggregate(asked, table, self.aggregate_statement)

    @contextmanager
    def _table(self, source: str | ReadingSchema) -> Iterator[Any]:
        if isinstance(source, ReadingSchema):
            with self._dialect(self.reading_alias(source.model)) as dialect:
                yield ReadingTable(dialect, source)
        else:
            with self._dialect(str(self.get_db_alias())) as dialect:
                yield EventTable(dialect, source)

    @contextmanager
    def _dialect(self, using: str) -> Iterator[Dialect]:
        with translated_errors(using), private_connection(using) as connection:
            dialect = dialect_of(connection)
            dialect.prepare()
            yield dialect


def _events(asked: EventQuery, table: EventTable) -> list[dict[str, Any]]:
    connection = table.dialect.connection
    rows = _filtered(table.rows(asked.window), table.conditions(Window(), asked.tags))
    if asked.trace_id is not None:
        rows = _filtered(rows, [table.in_trace(asked.trace_id)])
    tie = "uid"
    if connection.vendor == "mysql" and connection.features.has_native_uuid_field:
        rows = rows.alias(tie_break=Cast("uid", CharField()))  # MariaDB sorts parts of a UUID
        tie = "tie_break"
    found = _sorted(rows, asked.descending, "time", tie).values_list(*_EVENT_COLUMNS)
    return [
        {
            "id": str(uid),
            "measurement": measurement,
            "time": in_utc(time),
            "tags": tags,
            "fields": plain_fields(fields, asked.fields),
            "trace_id": trace_id or None,
        }
        for uid, measurement, time, tags, fields, trace_id in found[: asked.limit]
    ]


def _readings_as_events(asked: EventQuery, table: ReadingTable) -> list[dict[str, Any]]:
    if asked.trace_id is not None:
        return []  # readings are of no trace
    rows = _filtered(table.rows(asked.window), table.conditions(Window(), asked.tags))
    names = {column.attname for column in table.schema.columns.values()}
    return [
        reading_as_event(table.schema, {**row, TIME: in_utc(row[TIME])}, asked.fields)
        for row in _sorted(rows, asked.descending, TIME, "pk").values(*names)[: asked.limit]
    ]


def _readings(asked: ReadingQuery, table: ReadingTable) -> list[dict[str, Any]]:
    device: Any = None if asked.schema.device is None else asked.schema.device.attname
    rows = table.rows(asked.window)
    if asked.device_id is not None:
        rows = rows.filter(**{device: asked.device_id})
    ties = [TIME, *([device] if device else []), "pk"]
    rows = _sorted(rows, asked.descending, asked.order.attname, *ties)
    names = {TIME, *([device] if device else [])}
    names |= {column.attname for column in asked.fields.values()}
    return [
        {"device_id": row.get(device), "timestamp": in_utc(row[TIME])}
        | {key: _value(row[column.attname]) for key, column in asked.fields.items()}
        for row in rows.values(*names)[: asked.limit]
    ]


def _value(value: Any) -> Any:
    return in_utc(value) if isinstance(value, datetime) else value


def _filtered(rows: Any, conditions: Sequence[Sql]) -> Any:
    for condition in conditions:
        rows = rows.filter(RawSQL(condition.text, condition.params, BooleanField()))
    return rows


def _sorted(rows: Any, descending: bool, *names: str) -> Any:
    """Order by columns, in the same direction; what is not there is last."""
    first, *ties = (F(name) for name in names)
    if descending:
        return rows.order_by(first.desc(nulls_last=True), *(tie.desc() for tie in ties))
    return rows.order_by(first.asc(nulls_last=True), *(tie.asc() for tie in ties))


def _aggregate(asked: AggregateQuery, table: Table, make: Callable[..., Sql]) -> Any:
    if asked.interval is None:
        statement = make(asked, table, ())
        return answer(asked, _computed(asked, table, _rows(table, statement), None), None)
    check_clock(table.dialect.connection)
    start, last = _bounds(asked, table)
    if start is None or last is None:
        return []
    buckets = Buckets(asked.interval, asked.zone, start, last)
    if len(buckets.segments) > 1:
        # Rows that came in since have an offset that the statement does not know.
        asked = dataclasses.replace(asked, window=Window(start, last + _MICROSECOND))
    rows = _rows(table, make(asked, table, buckets.segments))
    return answer(asked, _computed(asked, table, rows, buckets), buckets)


def _bounds(asked: AggregateQuery, table: Table) -> tuple[datetime | None, datetime | None]:
    """Return the first and the last instant of which the zone's offset must be known."""
    start, last = asked.window.start, asked.window.last
    if zone_is_fixed(asked.zone):  # then any instant will do, where there is no bound
        return start or last or _ANY, last or start or _ANY
    if asked.fill is not None or (start and last and last - start < _LONG_WINDOW):
        return start, last
    return table.extremes(asked.window)


def _rows(table: Table, statement: Sql) -> list[tuple[Any, ...]]:
    with table.dialect.connection.cursor() as cursor:
        try:
            cursor.execute(statement.text, statement.params)
            return list(cursor.fetchall())
        except DataError as error:
            raise ValueError(f"the database cannot compute that: {error}") from error


def _computed(
    asked: AggregateQuery, table: Table, rows: Iterable[Any], buckets: Buckets | None
) -> Iterator[Found]:
    grouped = len(asked.group_by)
    for row in rows:
        group = tuple(map(table.read_group, asked.group_by, row))
        rest = row[grouped:]
        bucket = None
        if buckets is not None:
            offset = buckets.segments[0].offset_seconds
            index, *rest = rest
            if tells_apart(buckets.interval, buckets.segments):
                offset, *rest = rest
            bucket = buckets.start(int(index), int(offset))
        result = _result(asked, table, rest)
        if result is not None:
            yield Found(bucket, group, result)


def _result(asked: AggregateQuery, table: Table, values: Sequence[Any]) -> Any:
    """Return the result, given what the statement's aggregates are; ``None`` of nothing."""
    if asked.function == "count":
        return values[0]
    if asked.percent is not None:
        if table.dialect.has_percentile_cont:
            return values[0]
        count, low, high = values
        return interpolated(low, high, asked.percent, count) if count else None
    places = table.decimal_places(asked.field)
    if asked.function in ("min", "max"):
        return _extreme(asked.function, values, places)
    return _sum_or_mean(asked.function, values, table.dialect, places)


def _extreme(function: str, values: Sequence[Any], places: int | None) -> Any:
    others, whole, other = values
    if not others:
        return None if whole is None else int(whole)
    if places is not None:
        return _decimal(other, places)
    if whole is None:
        return float(other)
    return float(min(whole, other) if function == "min" else max(whole, other))


def _sum_or_mean(function: str, values: Sequence[Any], dialect: Dialect, places: int | None) -> Any:
    wholes, others, other, *parts = values
    if not wholes + others:
        return None
    whole = dialect.whole_sum(*parts)
    if function == "avg":
        return mean(whole, other, wholes + others, others)
    return total(whole, other, others) if places is None else _decimal(other, places)


def _decimal(value: Any, places: int) -> Decimal:
    """Return a number as the decimal that it is; SQLite stores them as doubles."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    with localcontext(prec=DECIMAL_DIGITS):
        return exact.quantize(Decimal(1).scaleb(-places))
