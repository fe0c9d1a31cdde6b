"""Aggregates of readings from a continuous aggregate, as exact as from the readings.

A continuous aggregate that is read in real time still misses what changed in buckets that it
has materialised, and what lies before the window of its first refresh. TimescaleDB keeps a log of
both. So a query takes from it the buckets that are complete, and computes all others, and the
parts of buckets at the window's ends, from the readings.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import DatabaseError, connections, transaction

from tailrace.backends.reading.columns import ReadingSchema, kind_of
from tailrace.backends.reading.dialects import Sql
from tailrace.backends.reading.orm import OrmReader
from tailrace.backends.reading.query import AggregateQuery
from tailrace.backends.reading.statement import bucket_number, offset_at, tells_apart
from tailrace.backends.reading.tables import ReadingTable
from tailrace.backends.statements import statement
from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.interval import Segment

from .aggregates import Definition, Found, find_aggregates
from .convert import find
from .probe import probe
from .spans import (
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
_WIDTH_MIN_SECONDS = 60
"""Below, there is little to gain from buckets of readings."""
_ANSWERS = {"avg": ("avg", "sum"), "sum": ("sum", "avg")}
"""Which functions an aggregate of another one answers too, besides its own."""
_MERGED = ("avg", "sum", "min", "max", "count")


class Plan(NamedTuple):
    """What comes from where."""

    found: Found | None
    ready: list[Span]
    raw: list[Span]
    width_seconds: int
    """Of the buckets that readings are put into first."""
    time_bucket: str


class TimescaleReader(OrmReader):
    """A part of :class:`tailrace.backends.timescale.TimescaleDBBackend`."""

    def aggregate_rows(self, asked: AggregateQuery, table: Any) -> Any:
        if not isinstance(table, ReadingTable) or not asked.use_rollups:
            return super().aggregate_rows(asked, table)
        with _snapshot(table.dialect.connection.alias):
            return super().aggregate_rows(asked, table)

    def aggregate_statement(
        self, asked: AggregateQuery, table: Any, segments: Sequence[Segment]
    ) -> Sql:
        """Return the statement by ``time_bucket``, and over a continuous aggregate that fits."""
        if isinstance(table, ReadingTable) and asked.interval is not None and asked.use_rollups:
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
    using = table.dialect.connection.alias
    capabilities = probe(connections[using])
    width = _width(asked.interval, segments)
    if not capabilities.has_hypertables or width < _WIDTH_MIN_SECONDS:
        return None
    whole = window_span(asked.window)
    time_bucket = capabilities.function("time_bucket").as_string(None).replace("%", "%%")
    found = _best(asked, table, width)
    if found is None or found.definition is None:
        return Plan(None, [], [whole], width, time_bucket)
    with connections[using].cursor() as cursor:
        cursor.execute(
            statement("timescale_stale"), {"materialized": found.materialized, "raw": found.raw}
        )
        stale = [Span(low, high + 1) for low, high in cursor.fetchall()]
    raw = raw_spans(whole, found.definition.seconds * SECOND_US, stale)
    return Plan(found, gaps(whole, raw), raw, width, time_bucket)


def _is_by_device(asked: AggregateQuery, schema: ReadingSchema) -> bool:
    """Return whether nothing else than devices is asked for."""
    columns = {schema.column(name) for name in asked.group_by} | set(asked.tags)
    return columns <= {schema.device}


def _best(asked: AggregateQuery, table: ReadingTable, width: int) -> Found | None:
    """Return the widest continuous aggregate that can answer."""
    using = table.dialect.connection.alias
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            relation = find(cursor, table.schema.model._meta.db_table, table.schema.time.column)
            found = find_aggregates(cursor, relation)
    except NotSupportedByBackend:
        return None  # there is no such table; whoever reads it says so
    except DatabaseError as error:
        logger.warning("continuous aggregates of %s cannot be seen: %s", table.schema.label, error)
        return None
    fitting = [each for each in found if _fits(each.definition, asked, width)]
    return max(fitting, key=lambda each: each.definition.seconds, default=None)  # type: ignore[union-attr]


def _fits(definition: Definition | None, asked: AggregateQuery, width: int) -> bool:
    if definition is None or not definition.seconds or definition.field != asked.field:
        return False
    known = _ANSWERS.get(definition.function, (definition.function,))
    return asked.function in known and width % definition.seconds == 0


def _width(interval: Any, segments: Sequence[Segment]) -> int:
    """Return the widest buckets, in seconds and UTC, that no edge of those asked for cuts."""
    changes = [(as_us(segment.start) - ORIGIN_US) // SECOND_US for segment in segments[1:]]
    offsets = [segment.offset_seconds for segment in segments]
    return math.gcd(interval.seconds or _DAY_SECONDS, *offsets, *changes)


# --- the statement


def _merged(
    asked: AggregateQuery, table: ReadingTable, segments: Sequence[Segment], plan: Plan
) -> Sql:
    """Return a SELECT with the columns of ``reading.statement.aggregate_statement``."""
    assert asked.interval is not None
    parts = (
        [_from_aggregate(asked, table, plan.found, plan.ready)] if plan.found and plan.ready else []
    )
    if plan.raw:
        parts.append(_from_readings(asked, table, plan))
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


def _from_aggregate(
    asked: AggregateQuery, table: ReadingTable, found: Found, spans: list[Span]
) -> Sql:
    definition = found.definition
    assert definition is not None
    count, value = {
        "avg": ("numbers", "total"),
        "sum": ("numbers", "total"),
        "count": ("result", "NULL::numeric"),
    }.get(definition.function, ("CASE WHEN result IS NULL THEN 0 ELSE 1 END", "result"))
    device = "device_id" if table.schema.device is not None and asked.group_by else "NULL"
    conditions = [_within("bucket", spans), *_of_devices(asked, table, "device_id")]
    where = " AND ".join(each.text for each in conditions)
    # Where it is stored, not the view, which would look for newer readings once more. And not
    # Django's quote_name(): a quotation mark in a name ends it there.
    source = found.buckets.as_string(None).replace("%", "%%")
    by = "bucket, device_id" if device == "device_id" else "bucket"
    # First by bucket, so that its number is computed once and not for each device.
    return Sql(
        f"SELECT d, {table.dialect.seconds('bucket')} AS e, c, "
        f"{_typed(asked, table, 'v')} AS v FROM (SELECT {device} AS d, bucket, "
        f"SUM({count}) AS c, {_merge(asked)}({value}) AS v FROM {source} WHERE {where} "
        f"GROUP BY {by}) s",
        sum((each.params for each in conditions), ()),
    )


def _from_readings(asked: AggregateQuery, table: ReadingTable, plan: Plan) -> Sql:
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
    conditions = [_within(table.time, plan.raw), *_of_devices(asked, table, device)]
    where = " AND ".join(each.text for each in conditions)
    bucket = f"{plan.time_bucket}(make_interval(secs => {plan.width_seconds:d}), {table.time})"
    return Sql(
        f"SELECT d, {table.dialect.seconds('bucket')} AS e, c, v FROM ("
        f"SELECT {device if asked.group_by else 'NULL'} AS d, {bucket} AS bucket, "
        f"SUM({count}) AS c, {_merge(asked)}({_typed(asked, table, value)}) AS v "
        f"FROM {table.name} WHERE {where} GROUP BY 1, 2) s",
        sum((each.params for each in conditions), ()),
    )


def _merge(asked: AggregateQuery) -> str:
    """Return the function by which values of several devices or buckets become one."""
    return {"min": "MIN", "max": "MAX"}.get(asked.function, "SUM")


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
