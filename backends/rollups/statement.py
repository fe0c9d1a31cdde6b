"""Partials of rows, computed by the database: one pass over the rows of a range for each field.

The SELECT has the levels of ``tailrace.backends.reading.statement``, whose definitions of a number,
a bucket and a group are used as they are; where a sketch is wanted, its bin is one more thing to
group by, so that no value ever comes to Python. Measured on SQLite, on a million events with a
field and a tag: see ``docs/benchmarks.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from django.apps import apps
from django.db import DataError

from tailrace.backends.reading.arguments import Filters, make_source, zone_is_fixed
from tailrace.backends.reading.columns import ReadingSchema, kind_of
from tailrace.backends.reading.dialects import Dialect, Sql, dialect_of
from tailrace.backends.reading.query import Window
from tailrace.backends.reading.statement import bucket_number, offset_at, tells_apart
from tailrace.backends.reading.tables import EventTable, ReadingTable, Table, check_clock
from tailrace.pipeline.interval import Buckets, Interval, Segment
from tailrace.pipeline.rollup import Rollup
from tailrace.pipeline.sketch import Sketch

from .groups import Group
from .partial import ROWS, Partial, as_decimal
from .ranges import FIRST_US, LAST_US, datetime_of, us_of

_ROWS_A_FETCH = 2_000
_MICROSECOND = timedelta(microseconds=1)
_ANY = datetime(2000, 1, 1, tzinfo=UTC)
_COUNTS = ("COUNT(*)", "COUNT(w)", "COUNT(o)", "MIN(w)", "MAX(w)", "SUM(o)", "MIN(o)", "MAX(o)")


class Cell(NamedTuple):
    """The partial of one field, in one group of one bucket."""

    bucket_us: int | None
    """The bucket's first instant; ``None`` where there are no buckets."""
    group: Group
    field: str
    partial: Partial


@dataclass(frozen=True, kw_only=True)
class PartialQuery:
    """What is to be computed."""

    fields: tuple[str, ...] = (ROWS,)
    """Whose values; ``ROWS`` counts rows."""
    group_by: tuple[str, ...] = ()
    filters: Filters = field(default_factory=dict)
    """As of an :class:`~tailrace.backends.reading.query.AggregateQuery`."""
    interval: Interval | None = None
    """Width of the buckets."""
    zone: tzinfo = UTC
    has_sketch: bool = False

    @classmethod
    def of_rollup(cls, rollup: Rollup) -> PartialQuery:
        """Return what the first level of a rollup is made of: its rows, and its fields."""
        return cls(
            fields=(ROWS, *rollup.fields),
            group_by=rollup.group_by,
            interval=rollup.widths[0],
            zone=rollup.zone,
            has_sketch=rollup.has_sketch,
        )


def source_table(connection: Any, source: str) -> Table:
    """Return the table that the rows of a rollup's source are in.

    Args:
        connection: A Django connection to their database.
        source: A measurement, or a model's label, as in :attr:`Rollup.source`.

    Raises:
        ValueError: there is no such model, or it is none of readings.
        NotSupportedByBackend: aggregates are not written for this database.
    """
    return table_of(connection, source_of(source))


def table_of(connection: Any, source: str | ReadingSchema) -> Table:
    """Return the table of a measurement's events, or of a model's readings."""
    dialect = dialect_of(connection)
    dialect.prepare()
    if isinstance(source, ReadingSchema):
        return ReadingTable(dialect, source)
    return EventTable(dialect, source)


def source_of(source: str) -> str | ReadingSchema:
    """Return the measurement or the model that a rollup's source names."""
    app_label, _, name = source.rpartition(".")
    if app_label and name[:1].isupper():
        try:
            return ReadingSchema(apps.get_model(source))
        except LookupError as error:
            raise ValueError(f"there is no model {source!r}: {error}") from error
    return make_source(source)


def partials(
    table: Table, asked: PartialQuery, ranges: Iterable[tuple[int, int]]
) -> Iterator[Cell]:
    """Compute partials of rows, in as many statements as there are ranges times fields.

    Each range is read by the index of its table, and its result is held in memory, by group and
    bucket; rows are not.

    Args:
        table: Where the rows are (see :func:`source_table`); its connection is used as it is, in
            the transaction that is open.
        asked: What to compute.
        ranges: Whose rows: ``(low, high)`` in microseconds since 1970, half-open, as in
            ``ranges.py``. Ranges that share a bucket, or have none, give cells with the same
            place: merge them.

    Yields:
        Cells that have at least one value, in no order; of one range after the other.

    Raises:
        ValueError: there is no such field, or the database cannot compute that.
    """
    check_clock(table.dialect.connection)
    for low_us, high_us in ranges:
        span = _Span.make(table, asked, low_us, high_us)
        if span is not None:
            for name in asked.fields:
                yield from _cells(table, asked, span, name)


@dataclass(frozen=True)
class _Span:
    """One range, and what its zone does meanwhile."""

    window: Window
    buckets: Buckets | None

    @classmethod
    def make(cls, table: Table, asked: PartialQuery, low_us: int, high_us: int) -> _Span | None:
        if low_us >= high_us:
            return None
        window = Window(
            None if low_us <= FIRST_US else datetime_of(low_us),
            None if high_us >= LAST_US else datetime_of(high_us),
        )
        if asked.interval is None:
            return cls(window, None)
        start, last = window.start, window.last
        if zone_is_fixed(asked.zone):
            start, last = start or last or _ANY, last or start or _ANY
        elif start is None or last is None:
            start, last = table.extremes(window)
            if start is None or last is None:
                return None
            window = Window(start, last + _MICROSECOND)
        return cls(window, Buckets(asked.interval, asked.zone, start, last))

    @property
    def segments(self) -> Sequence[Segment]:
        return self.buckets.segments if self.buckets else ()


def _cells(table: Table, asked: PartialQuery, span: _Span, name: str) -> Iterator[Cell]:
    reader = _RowReader(table, asked, span, name)
    statement = _statement(table, asked, span, name)
    with table.dialect.connection.cursor() as cursor:
        try:
            cursor.execute(statement.text, statement.params)
            while rows := cursor.fetchmany(_ROWS_A_FETCH):
                reader.add(rows)
        except DataError as error:
            raise ValueError(f"the database cannot compute that: {error}") from error
    yield from reader.cells()


class _RowReader:
    """Puts together what the statement has apart: the bins of a sketch."""

    def __init__(self, table: Table, asked: PartialQuery, span: _Span, name: str) -> None:
        self._table, self._asked, self._name = table, asked, name
        self._buckets = span.buckets
        self._has_offset = asked.interval is not None and tells_apart(asked.interval, span.segments)
        self._has_numbers = _has_numbers(table, name)
        self._has_sketch = asked.has_sketch and self._has_numbers
        self._places = table.decimal_places(name) if self._has_numbers else None
        self._key_length = len(asked.group_by) + (asked.interval is not None) + self._has_offset
        self._partials: dict[tuple[Any, ...], Partial] = {}

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take rows of the statement."""
        known, length = self._partials, self._key_length
        for row in rows:
            key = tuple(row[:length])
            partial = known.get(key)
            if partial is None:
                partial = known[key] = Partial(sketch=Sketch() if self._has_sketch else None)
            if not self._has_numbers:
                partial.count += row[length]
            elif self._has_sketch:
                self._add_bin(partial, row[length], row[length + 1 :])
            else:
                partial.merge(self._partial(row[length:]))

    def _add_bin(self, partial: Partial, place: Any, values: Sequence[Any]) -> None:
        found = self._partial(values)
        partial.merge(found)
        if place is not None and partial.sketch is not None:
            partial.sketch.bins[int(place)] += found.wholes + found.others

    def _partial(self, values: Sequence[Any]) -> Partial:
        count, wholes, others, low, high, added, least, greatest, *sums = values
        made = Partial(count, wholes=wholes, others=others)
        if wholes:
            made.whole_sum = self._table.dialect.whole_sum(*sums)
            made.whole_min, made.whole_max = int(low), int(high)
        if others:
            places = self._places
            if places is not None:
                added, least, greatest = (as_decimal(v, places) for v in (added, least, greatest))
            made.other_sum, made.other_min, made.other_max = added, least, greatest
        return made

    def cells(self) -> Iterator[Cell]:
        """Yield what was put together."""
        groups: dict[tuple[Any, ...], Group] = {}
        starts: dict[tuple[int, int], int] = {}
        names = self._asked.group_by
        for key, partial in self._partials.items():
            if not partial.count:
                continue  # without groups and buckets, nothing is a row, too
            raw = key[: len(names)]
            group = groups.get(raw)
            if group is None:
                group = groups[raw] = tuple(map(self._table.read_group, names, raw))
            yield Cell(self._start(key[len(names) :], starts), group, self._name, partial)

    def _start(self, rest: tuple[Any, ...], known: dict[tuple[int, int], int]) -> int | None:
        if self._buckets is None:
            return None
        offset = rest[1] if self._has_offset else self._buckets.segments[0].offset_seconds
        place = int(rest[0]), int(offset)
        if place not in known:
            known[place] = us_of(self._buckets.start(*place))
        return known[place]


def _has_numbers(table: Table, name: str) -> bool:
    if name == ROWS:
        return False
    return not isinstance(table, ReadingTable) or kind_of(table.schema.column(name)) is not None


# --- the statement


def _statement(table: Table, asked: PartialQuery, span: _Span, name: str) -> Sql:
    """Return the SELECT; columns: groups, bucket and offset, bin; then the aggregates."""
    dialect = table.dialect
    has_numbers = _has_numbers(table, name)
    level = _innermost(table, asked, span, name, has_numbers)
    places = [f"k{at}" for at in range(len(asked.group_by))]
    if asked.interval is not None:
        offset = offset_at(span.segments)
        level = _around(f"*, {offset.text} AS z", level, dialect, offset.params)
        level = _around(
            f"*, {bucket_number(asked.interval, 'e + z', dialect)} AS b", level, dialect
        )
        places.append("b")
        if tells_apart(asked.interval, span.segments):
            places.append("z")
    aggregates: Sequence[str] = ("COUNT(*)",)
    if has_numbers:
        aggregates = (*_COUNTS, *dialect.whole_sums("w"))
        if asked.has_sketch:
            level = _around(f"*, {dialect.double('COALESCE(w, o)')} AS v", level, dialect)
            level = _around(f"*, {dialect.bin('v')} AS s", level, dialect)
            places.append("s")
    shown = ", ".join([*places, *aggregates])
    by = f" GROUP BY {', '.join(places)}" if places else ""
    return Sql(f"SELECT {shown} FROM ({level.text}) s{by}", level.params)


def _innermost(table: Table, asked: PartialQuery, span: _Span, name: str, has_numbers: bool) -> Sql:
    """Return the SELECT of rows: group, time, and the number in two columns."""
    dialect = table.dialect
    selected = [table.group(each) for each in asked.group_by]
    selected = [Sql(f"{each.text} AS k{at}", each.params) for at, each in enumerate(selected)]
    if asked.interval is not None:
        selected.append(Sql(f"{dialect.seconds(table.time)} AS e"))
    conditions = table.conditions(span.window, asked.filters)
    join = Sql("")
    if name != ROWS:
        number = table.number(name)
        join = number.join
        conditions.append(number.exists)
        if has_numbers:
            selected.append(Sql(f"{number.value.text} AS n", number.value.params))
            selected.append(Sql(f"{number.kind.text} AS t", number.kind.params))
    selected = selected or [Sql("1 AS one")]
    conditions = conditions or [Sql("1 = 1")]
    text = (
        f"SELECT {', '.join(each.text for each in selected)} FROM {table.name}{join.text} "
        f"WHERE {' AND '.join(each.text for each in conditions)}"
    )
    level = Sql(text, _params(*selected, join, *conditions))
    if not has_numbers:
        return level
    return _around(f"*, {number.whole} AS w, {number.other} AS o", level, dialect)


def _around(selected: str, level: Sql, dialect: Dialect, params: tuple[Any, ...] = ()) -> Sql:
    text = f"SELECT {selected} FROM ({level.text}) s{dialect.fence}"
    return Sql(text, (*params, *level.params))


def _params(*pieces: Sql) -> tuple[Any, ...]:
    return tuple(param for piece in pieces for param in piece.params)
