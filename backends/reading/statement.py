"""One SELECT that computes an aggregate.

It is built from the inside out, each level a subquery of the next::

    n, t, e, k0...     the value, its type, its time in seconds, the group
    w, o               the value as an integer, or as another number
    z                  the offset of the zone at that time
    b                  the number of the bucket
    the aggregates, by k0..., b (and z where the repeated hour is a bucket of its own)

Databases flatten that, or are kept from it (see ``Dialect.fence``). Parameters stand inside,
where no GROUP BY has to repeat them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tailrace.pipeline.interval import Interval, Segment

from .dialects import Dialect, Sql
from .dialects.base import ORIGIN_SECONDS, YEAR_ONE
from .query import AggregateQuery
from .tables import Table

_TWO_DAYS_SECONDS = 2 * 86_400
_ORIGIN_MONTHS = 2000 * 12


def aggregate_statement(query: AggregateQuery, table: Table, segments: Sequence[Segment]) -> Sql:
    """Return the SELECT.

    Args:
        query: What was asked.
        table: Where from.
        segments: The zone's offsets within the window; needed with an interval only.

    Returns:
        Columns: the group; if there are buckets the bucket's number, and the offset where
        :func:`tells_apart`; then the aggregates.
    """
    dialect = table.dialect
    level = _innermost(query, table, dialect)
    if query.function != "count":
        level = _fenced(_wrapped("*", level, "w IS NOT NULL OR o IS NOT NULL"), dialect)
    places = [f"k{number}" for number in range(len(query.group_by))]
    if query.interval is not None:
        level = _wrapped_in_order("*, ", offset_at(segments), " AS z", level)
        level = _fenced(level, dialect)
        shown = bucket_number(query.interval, "e + z", dialect)
        level = _fenced(_wrapped(f"*, {shown} AS b", level), dialect)
        places.append("b")
        if tells_apart(query.interval, segments):
            places.append("z")
    if query.percent is not None and not dialect.has_percentile_cont:
        return _ranked(query.percent, places, level, dialect)
    aggregates = ", ".join(_aggregates(query, dialect))
    return _grouped(places, aggregates, level)


def tells_apart(interval: Interval, segments: Sequence[Segment]) -> bool:
    """Return whether rows carry the offset: whether a bucket's number alone is ambiguous."""
    return interval.tells_offsets_apart and len(segments) > 1


def bucket_number(interval: Interval, seconds: str, dialect: Dialect) -> str:
    """Return the SQL of :meth:`Interval.index` of a wall clock time.

    Integer division differs below zero, so the counting starts before the year 1.
    """
    if interval.months:
        first = -((_ORIGIN_MONTHS + 12) // interval.months) - 1
        shift = -_ORIGIN_MONTHS - first * interval.months
        count = dialect.quotient(f"{dialect.months(seconds)} + {shift:d}", interval.months)
    else:
        first = -((ORIGIN_SECONDS + _TWO_DAYS_SECONDS) // interval.seconds) - 1
        shift = -ORIGIN_SECONDS - first * interval.seconds
        count = dialect.quotient(f"{seconds} + {shift:d}", interval.seconds)
    return f"({count} + {first:d})"


def _innermost(query: AggregateQuery, table: Table, dialect: Dialect) -> Sql:
    selected = [table.group(name) for name in query.group_by]
    selected = [Sql(f"{each.text} AS k{at}", each.params) for at, each in enumerate(selected)]
    if query.interval is not None:
        selected.append(Sql(f"{dialect.seconds(table.time)} AS e"))
    conditions = table.conditions(query.window, query.tags)
    join = Sql("")
    if query.field is not None:
        number = table.number(query.field)
        join = number.join
        if query.function == "count":
            conditions.append(number.exists)
        else:
            selected.append(Sql(f"{number.value.text} AS n", number.value.params))
            selected.append(Sql(f"{number.kind.text} AS t", number.kind.params))
    level = _joined(
        "SELECT ",
        _list(selected or [Sql("1 AS one")]),
        f" FROM {table.name}",
        join,
        " WHERE ",
        _list(conditions or [Sql("1 = 1")], " AND "),
    )
    if query.field is None or query.function == "count":
        return level
    level = _wrapped(f"*, {number.whole} AS w, {number.other} AS o", level)
    return _fenced(level, dialect)


def offset_at(segments: Sequence[Segment]) -> Sql:
    """Return the zone's offset in seconds at the time ``e``."""
    first, *changes = segments
    if not changes:
        return Sql(f"{first.offset_seconds:d}")
    cases, params, offset = [], [], first.offset_seconds
    for segment in changes:
        cases.append("WHEN e < %s THEN %s")
        since_year_one = segment.start.replace(tzinfo=None) - YEAR_ONE
        params += [int(since_year_one.total_seconds()), offset]
        offset = segment.offset_seconds
    return Sql(f"CASE {' '.join(cases)} ELSE %s END", (*params, offset))


def _aggregates(query: AggregateQuery, dialect: Dialect) -> tuple[str, ...]:
    if query.function == "count":
        return ("COUNT(*)",)
    if query.percent is not None:
        value = dialect.double("COALESCE(w, o)")
        return (f"percentile_cont(0.{query.percent:02d}) WITHIN GROUP (ORDER BY {value})",)
    if query.function in ("min", "max"):
        name = query.function.upper()
        return "COUNT(o)", f"{name}(w)", f"{name}(o)"
    return "COUNT(w)", "COUNT(o)", "SUM(o)", *dialect.whole_sums("w")


def _ranked(percent: int, places: list[str], level: Sql, dialect: Dialect) -> Sql:
    """Return the two values that a percentile lies between, and how many there are."""
    kept = "".join(f"{place}, " for place in places)
    parts = f"PARTITION BY {', '.join(places)}" if places else ""
    value = dialect.double("COALESCE(w, o)")
    level = _wrapped(f"{kept}{value} AS v", level)
    ranked = f"{kept}v, ROW_NUMBER() OVER ({parts} ORDER BY v) AS r, COUNT(*) OVER ({parts}) AS m"
    place = dialect.quotient(f"{percent:d} * (m - 1)", 100)
    chosen = f"r = {place} + 1 OR r = {place} + 2"
    return _grouped(places, "MAX(m), MIN(v), MAX(v)", _wrapped(ranked, level), chosen)


def _grouped(places: list[str], aggregates: str, level: Sql, where: str = "") -> Sql:
    kept = "".join(f"{place}, " for place in places)
    wrapped = _wrapped(f"{kept}{aggregates}", level, where)
    by = f" GROUP BY {', '.join(places)}" if places else ""
    return Sql(f"{wrapped.text}{by}", wrapped.params)


def _wrapped(selected: str, level: Sql, where: str = "") -> Sql:
    condition = f" WHERE {where}" if where else ""
    return Sql(f"SELECT {selected} FROM ({level.text}) s{condition}", level.params)


def _fenced(level: Sql, dialect: Dialect) -> Sql:
    return Sql(level.text + dialect.fence, level.params)


def _wrapped_in_order(before: str, expression: Sql, after: str, level: Sql) -> Sql:
    return _joined(f"SELECT {before}", expression, f"{after} FROM (", level, ") s")


def _list(pieces: Sequence[Sql], separator: str = ", ") -> Sql:
    params: tuple[Any, ...] = sum((each.params for each in pieces), ())
    return Sql(separator.join(each.text for each in pieces), params)


def _joined(*pieces: Sql | str) -> Sql:
    return _list([Sql(each) if isinstance(each, str) else each for each in pieces], "")
