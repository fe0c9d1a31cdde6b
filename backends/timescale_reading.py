"""Aggregates of readings from a continuous aggregate, as exact as from the readings.

A continuous aggregate that is read in real time still misses what changed in buckets that it
has materialised, and what lies before the window of its first refresh. TimescaleDB keeps a log of
both. So a query takes from it the buckets that are complete, and computes all others, and the
parts of buckets at the window's ends, from the readings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import DatabaseError, connections, transaction

from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.interval import Interval, Segment

from .django_errors import translated_errors
from .private_connection import private_connection
from .reading.columns import ReadingSchema, kind_of
from .reading.dialects import Sql
from .reading.orm import OrmReader
from .reading.query import AggregateQuery
from .reading.statement import bucket_number, offset_at, tells_apart
from .reading.tables import ReadingTable
from .statements import statement
from .timescale_aggregates import Definition, Found, find_aggregates
from .timescale_convert import find
from .timescale_spans import (
    EPOCH,
    MAX_US,
    MIN_US,
    ORIGIN_US,
    SECOND_US,
    Span,
    as_us,
    gaps,
    raw_spans,
    window_span,
)

logger = logging.getLogger("tailrace")

_DAY_SECONDS = 86_400
_ANSWERS = {"avg": ("avg", "sum"), "sum": ("sum", "avg")}
"""Which functions an aggregate of another one answers too, besides its own."""
_MERGED = ("avg", "sum", "min", "max", "count")


class Plan(NamedTuple):
    """What comes from where."""

    found: Found
    ready: list[Span]
    raw: list[Span]


class TimescaleReader(OrmReader):
    """A part of :class:`tailrace.backends.timescale.TimescaleDBBackend`."""

    def aggregate(self, measurement_or_model: Any, field: Any, *args: Any, **options: Any) -> Any:
        if isinstance(measurement_or_model, str):
            return super().aggregate(measurement_or_model, field, *args, **options)
        using = self.reading_alias(ReadingSchema(measurement_or_model).model)
        with translated_errors(using), private_connection(using), _snapshot(using):
            return super().aggregate(measurement_or_model, field, *args, **options)

    def aggregate_statement(  # type: ignore[override]
        self, asked: AggregateQuery, table: Any, segments: Sequence[Segment]
    ) -> Sql:
        """Return the statement over a continuous aggregate, if there is one that fits."""
        if isinstance(table, ReadingTable) and asked.interval is not None:
            plan = _plan(asked, table, segments)
            if plan is not None:
                return _merged(asked, table, segments, plan)
        return OrmReader.aggregate_statement(asked, table, segments)


@contextmanager
def _snapshot(using: str) -> Iterator[None]:
    """Let the log of changes and the rows be of one moment."""
    connection = connections[using]
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    with transaction.atomic(using=using), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


# --- what comes from where


def _plan(asked: AggregateQuery, table: ReadingTable, segments: Sequence[Segment]) -> Plan | None:
    if asked.function not in _MERGED or not _is_by_device(asked, table.schema):
        return None
    found = _best(asked, table, segments)
    if found is None or found.definition is None:
        return None
    width = found.definition.seconds * SECOND_US
    with connections[table.dialect.connection.alias].cursor() as cursor:
        cursor.execute(
            statement("timescale_stale"), {"materialized": found.materialized, "raw": found.raw}
        )
        stale = [Span(low, high + 1) for low, high in cursor.fetchall()]
    whole = window_span(asked.window)
    raw = raw_spans(whole, width, stale)
    ready = gaps(whole, raw)
    return Plan(found, ready, raw) if ready else None


def _is_by_device(asked: AggregateQuery, schema: ReadingSchema) -> bool:
    """Return whether nothing else than devices is asked for."""
    columns = {schema.column(name) for name in asked.group_by} | set(asked.tags)
    return columns <= {schema.device}


def _best(asked: AggregateQuery, table: ReadingTable, segments: Sequence[Segment]) -> Found | None:
    """Return the widest continuous aggregate that can answer."""
    using = table.dialect.connection.alias
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute("SELECT to_regclass('_timescaledb_catalog.continuous_agg') IS NULL")
            if cursor.fetchone()[0]:
                return None
            relation = find(cursor, table.schema.model._meta.db_table, table.schema.time.column)
            found = find_aggregates(cursor, relation)
    except NotSupportedByBackend:
        return None  # there is no such table; whoever reads it says so
    except DatabaseError as error:
        logger.warning("continuous aggregates of %s cannot be seen: %s", table.schema.label, error)
        return None
    fitting = [each for each in found if _fits(each.definition, asked, segments)]
    return max(fitting, key=lambda each: each.definition.seconds, default=None)  # type: ignore[union-attr]


def _fits(
    definition: Definition | None, asked: AggregateQuery, segments: Sequence[Segment]
) -> bool:
    if definition is None or not definition.seconds or definition.field != asked.field:
        return False
    if asked.function not in _ANSWERS.get(definition.function, (definition.function,)):
        return False
    # Every edge of a bucket that is asked for must be one of the continuous aggregate's.
    width = definition.seconds
    interval: Interval = asked.interval  # type: ignore[assignment]
    size = interval.seconds or _DAY_SECONDS
    changes = [segment.start for segment in segments[1:]]
    return (
        size % width == 0
        and all(each.offset_seconds % width == 0 for each in segments)
        and all((as_us(change) - ORIGIN_US) % (width * SECOND_US) == 0 for change in changes)
    )


# --- the statement


def _merged(
    asked: AggregateQuery, table: ReadingTable, segments: Sequence[Segment], plan: Plan
) -> Sql:
    """Return a SELECT with the columns of ``reading.statement.aggregate_statement``."""
    assert asked.interval is not None
    parts = [_from_aggregate(asked, table, plan)]
    if plan.raw:
        parts.append(_from_readings(asked, table, plan.raw))
    union = " UNION ALL ".join(part.text for part in parts)
    params = sum((part.params for part in parts), ())
    offset = offset_at(segments)
    number = bucket_number(asked.interval, "e + z", table.dialect)
    groups = [f"d AS k{at}" for at in range(len(asked.group_by))]
    level = (
        f"SELECT *, {number} AS b FROM (SELECT *, {offset.text} AS z FROM ({union}) s) s "
        "WHERE c > 0"
    )
    level = f"SELECT {', '.join([*groups, 'b', 'z', 'c', 'v'])} FROM ({level}) s"
    places = [f"k{at}" for at in range(len(asked.group_by))] + ["b"]
    if tells_apart(asked.interval, segments):
        places.append("z")
    keys = ", ".join(places)
    text = f"SELECT {keys}, {_finals(asked, table)} FROM ({level}) s GROUP BY {keys}"
    return Sql(text, (*offset.params, *params))


def _from_aggregate(asked: AggregateQuery, table: ReadingTable, plan: Plan) -> Sql:
    definition = plan.found.definition
    assert definition is not None
    count, value = {
        "avg": ("numbers", "total"),
        "sum": ("numbers", "total"),
        "count": ("result", "NULL::numeric"),
    }.get(definition.function, ("CASE WHEN result IS NULL THEN 0 ELSE 1 END", "result"))
    device = "device_id" if table.schema.device is not None and asked.group_by else "NULL"
    conditions = [_within("bucket", plan.ready), *_of_devices(asked, table, "device_id")]
    where = " AND ".join(each.text for each in conditions)
    # Where it is stored, not the view, which would look for newer readings once more. And not
    # Django's quote_name(): a quotation mark in a name ends it there.
    source = plan.found.buckets.as_string(None).replace("%", "%%")
    merge = {"min": "MIN", "max": "MAX"}.get(asked.function, "SUM")
    by = "bucket, device_id" if device == "device_id" else "bucket"
    # First by bucket, so that its number is computed once and not for each device.
    return Sql(
        f"SELECT d, {table.dialect.seconds('bucket')} AS e, c, "
        f"{_typed(asked, table, 'v')} AS v FROM (SELECT {device} AS d, bucket, "
        f"SUM({count}) AS c, {merge}({value}) AS v FROM {source} WHERE {where} GROUP BY {by}) s",
        sum((each.params for each in conditions), ()),
    )


def _from_readings(asked: AggregateQuery, table: ReadingTable, spans: list[Span]) -> Sql:
    column = table.schema.device
    device = "NULL" if column is None else table.filtered(column).text
    if asked.field is None:
        count, value = "1", "NULL"
    else:
        value = table.filtered(table.schema.column(asked.field)).text
        if asked.function != "count" and kind_of(table.schema.column(asked.field)) == "float":
            value = table.dialect.finite(value)
        count = f"CASE WHEN {value} IS NULL THEN 0 ELSE 1 END"
        value = "NULL" if asked.function == "count" else value
    conditions = [_within(table.time, spans), *_of_devices(asked, table, device)]
    where = " AND ".join(each.text for each in conditions)
    return Sql(
        f"SELECT {device if asked.group_by else 'NULL'} AS d, "
        f"{table.dialect.seconds(table.time)} AS e, {count} AS c, "
        f"{_typed(asked, table, value)} AS v FROM {table.name} WHERE {where}",
        sum((each.params for each in conditions), ()),
    )


def _typed(asked: AggregateQuery, table: ReadingTable, value: str) -> str:
    """Return a value so that both halves of the union have one type, and integers stay exact."""
    if asked.function == "count":
        return "NULL::numeric"
    is_float = kind_of(table.schema.column(asked.field)) == "float"
    return f"({value})::{'float8' if is_float else 'numeric'}"


def _within(column: str, spans: list[Span]) -> Sql:
    """Return the condition that a time is in one of the spans."""
    conditions, params = [], []
    for span in spans:
        bounds = []
        for at, operator, end in ((span.start, ">=", MIN_US), (span.end, "<", MAX_US)):
            if at != end:
                bounds.append(f"{column} {operator} %s")
                params.append(EPOCH + timedelta(microseconds=at))
        conditions.append(" AND ".join(bounds) or "TRUE")
    return Sql(f"({' OR '.join(f'({each})' for each in conditions)})", tuple(params))


def _of_devices(asked: AggregateQuery, table: ReadingTable, device: str) -> list[Sql]:
    """Return the conditions of the filters, which are of devices only."""
    found = []
    for column, wanted in asked.tags.items():
        values = [table.bound(column, each) for each in wanted if each is not None]
        pieces = [f"{device} IN ({', '.join(['%s'] * len(values))})"] if values else []
        if len(values) < len(wanted):
            pieces.append(f"{device} IS NULL")
        found.append(Sql(f"({' OR '.join(pieces) or 'FALSE'})", tuple(values)))
    return found


def _finals(asked: AggregateQuery, table: ReadingTable) -> str:
    """Return the aggregates as the reader of the plain statement expects them."""
    if asked.function == "count":
        return "SUM(c)::bigint"
    is_whole = kind_of(table.schema.column(asked.field)) == "int"
    if asked.function in ("min", "max"):
        extreme = f"{asked.function.upper()}(v)"
        return f"0, {extreme}, NULL" if is_whole else f"COUNT(v), NULL, {extreme}"
    if is_whole:
        return "SUM(c)::bigint, 0, NULL, SUM(v)"
    return "0, SUM(c)::bigint, SUM(v), NULL"
