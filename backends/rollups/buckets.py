"""Buckets of levels, from their table: only the columns that a function needs, in one query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from django.apps import apps

from tailrace.backends.reading.dialects import Dialect, Sql
from tailrace.pipeline.sketch import Sketch

from .groups import Group
from .partial import Partial, number_of
from .plan import Plan
from .ranges import Range

_SELECTS_A_STATEMENT = 100
_ROWS_A_FETCH = 2_000

Values = Sequence[Any]


class Place(Protocol):
    """Where a level's bucket belongs in an answer."""

    def start(self, bucket_us: int) -> int | None:
        """Return the start of the question's bucket."""

    def group(self, text: str) -> Group | None:
        """Return the question's group, ``None`` if it is filtered out."""


def merge_buckets(
    dialect: Dialect,
    plan: Plan,
    *,
    field: str,
    function: str,
    place: Place,
    merged: dict[tuple[int | None, Group], Partial],
) -> None:
    """Read the buckets of a plan, and merge them into an answer.

    Args:
        dialect: Of the connection to read from.
        plan: Which buckets.
        field: Of which field of the rollup.
        function: What will be asked of the partials; they know enough for that, and no more.
        place: Where buckets belong.
        merged: What to merge them into.
    """
    columns, merge = _NEEDED.get(function, _NEEDED["percentile"])
    for bucket_us, text, *values in _rows(dialect, plan, field, columns):
        group = place.group(text)
        if group is None:
            continue
        key = place.start(bucket_us), group
        partial = merged.get(key)
        if partial is None:
            partial = merged[key] = Partial()
        merge(partial, values)


def extent(using: str, level_ids: Sequence[int]) -> list[tuple[int | None, int | None]]:
    """Return the first and the last bucket of levels, in microseconds since 1970."""
    rows = apps.get_model("tailrace", "RollupBucket")._base_manager.using(using)
    found = []
    for level_id in level_ids:
        times = rows.filter(level_id=level_id).values_list("bucket_us", flat=True)
        first, last = (times.order_by(order).first() for order in ("bucket_us", "-bucket_us"))
        found.append((first, last))
    return found


def _rows(dialect: Dialect, plan: Plan, field: str, columns: Sequence[str]) -> Iterator[Any]:
    selects = [
        _select(dialect, level.id, each, field, columns)
        for level, ranges in plan.ready
        for each in ranges
    ]
    for start in range(0, len(selects), _SELECTS_A_STATEMENT):
        chosen = selects[start : start + _SELECTS_A_STATEMENT]
        params = [param for each in chosen for param in each.params]
        with dialect.connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(each.text for each in chosen), params)
            while rows := cursor.fetchmany(_ROWS_A_FETCH):
                yield from rows


def _select(
    dialect: Dialect, level_id: int, span: Range, field: str, columns: Sequence[str]
) -> Sql:
    meta = apps.get_model("tailrace", "RollupBucket")._meta
    name = {each.name: dialect.name(each.column) for each in meta.concrete_fields}
    shown = ", ".join(name[each] for each in ("bucket_us", "group", *columns))
    exact = f"{dialect.text(name['field'])} = {dialect.text('%s')}"
    return Sql(
        f"SELECT {shown} FROM {dialect.name(meta.db_table)} WHERE {name['level_id']} = %s "
        f"AND {name['bucket_us']} >= %s AND {name['bucket_us']} < %s AND {exact}",
        (level_id, span.low, span.high, field),
    )


def _merge_count(partial: Partial, values: Values) -> None:
    partial.count += values[0]


def _merge_sums(partial: Partial, values: Values) -> None:
    wholes, others, whole_sum, other_sum = values
    partial.merge(
        Partial(
            wholes=wholes,
            others=others,
            whole_sum=int(whole_sum),
            other_sum=number_of(other_sum) or 0.0,
        )
    )


def _merge_extremes(partial: Partial, values: Values) -> None:
    wholes, others, low, high, least, greatest = values
    partial.merge(
        Partial(
            wholes=wholes,
            others=others,
            whole_min=low,
            whole_max=high,
            other_min=number_of(least),
            other_max=number_of(greatest),
        )
    )


def _merge_sketch(partial: Partial, values: Values) -> None:
    data = values[0]
    if data is not None:
        if partial.sketch is None:
            partial.sketch = Sketch()
        partial.sketch.merge_encoded(bytes(data))


_SUMS = (("wholes", "others", "whole_sum", "other_sum"), _merge_sums)
_EXTREMES = (
    ("wholes", "others", "whole_min", "whole_max", "other_min", "other_max"),
    _merge_extremes,
)
_NEEDED: dict[str, tuple[tuple[str, ...], Callable[[Partial, Values], None]]] = {
    "count": (("count",), _merge_count),
    "sum": _SUMS,
    "avg": _SUMS,
    "min": _EXTREMES,
    "max": _EXTREMES,
    "percentile": (("sketch",), _merge_sketch),
}
