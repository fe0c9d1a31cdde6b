"""From what was found to what is answered; the same for all backends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

from tailrace.pipeline.event import INT_MAX, INT_MIN
from tailrace.pipeline.interval import Buckets

from .columns import TIME, ReadingSchema
from .query import AggregateQuery

_ALWAYS_WHOLE = 1e16
"""From here on jsonb does not tell a float without fraction from an integer."""
DECIMAL_DIGITS = 400
"""Enough to add up the largest doubles and the smallest integers."""


@dataclass(frozen=True)
class Found:
    """The result of one bucket of one group."""

    bucket: datetime | None
    group: tuple[Any, ...]
    result: Any

    @property
    def place(self) -> tuple[Any, ...]:
        """Its place in the answer; ``None`` comes first."""
        when = None if self.bucket is None else self.bucket.astimezone(UTC)
        return (when,) if when else (), tuple((each is not None, each) for each in self.group)


def plain_number(value: Any) -> int | float | None:
    """Return a field's value as the number that it counts as; ``None`` if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if INT_MIN <= value <= INT_MAX else float(value)
    if isinstance(value, float) and math.isfinite(value):
        whole = abs(value) >= _ALWAYS_WHOLE and INT_MIN <= value < INT_MAX
        return int(value) if whole else value
    return None


def plain_fields(fields: dict[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    """Return the fields of these names; numbers as every backend has them."""
    chosen = fields if names is None else {name: fields[name] for name in names if name in fields}
    return {
        name: plain_number(value) if type(value) in (int, float) else value
        for name, value in chosen.items()
    }


def total(whole: int, others: Any, floats: int) -> Any:
    """Add up the exact sum of the integers and that of the ``floats`` other numbers."""
    if not floats:
        return whole
    if isinstance(others, Decimal):
        with localcontext(prec=DECIMAL_DIGITS):
            return float(others + whole)
    return float(others + whole)


def mean(whole: int, others: Any, numbers: int, floats: int) -> float:
    """Return the mean of ``numbers`` numbers, given the sums of integers and of other ones."""
    if not floats or isinstance(others, Decimal):
        with localcontext(prec=DECIMAL_DIGITS):
            return float((Decimal(whole) + (others or 0)) / numbers)
    return float((others + whole) / numbers)


def interpolated(low: float, high: float, percent: int, count: int) -> float:
    """Return a percentile.

    Args:
        low: The value at position ``percent * (count - 1) // 100`` in ascending order.
        high: The next one, where there is one.
        percent: Which percentile.
        count: Of how many values.
    """
    rest = percent * (count - 1) % 100
    return float(low + (high - low) * (rest / 100)) if rest else float(low)


def answer(query: AggregateQuery, found: Iterable[Found], buckets: Buckets | None) -> Any:
    """Return what :meth:`Reader.aggregate` returns.

    Args:
        query: What was asked.
        found: The results, in any order.
        buckets: Those of the whole window, where empty ones are to be filled.
    """
    results = sorted(found, key=lambda each: each.place)
    if query.interval is None and not query.group_by:
        nothing = 0 if query.function == "count" else None
        return {"result": results[0].result if results else nothing}
    if query.fill is not None and buckets is not None:
        results = _filled(query, results, list(buckets))
    return [_row(query, each) for each in results]


def _row(query: AggregateQuery, found: Found) -> dict[str, Any]:
    row = {"bucket": found.bucket} if query.interval is not None else {}
    return {**row, "result": found.result, **dict(zip(query.group_by, found.group, strict=True))}


def _filled(query: AggregateQuery, found: list[Found], starts: list[datetime]) -> list[Found]:
    groups: list[tuple[Any, ...]] = [()]
    if query.group_by:
        groups = list(dict.fromkeys(each.group for each in found))
    groups.sort(key=lambda group: tuple((each is not None, each) for each in group))
    # Keys in UTC: datetimes of one zone compare by wall clock.
    known = {(each.bucket.astimezone(UTC), each.group): each for each in found if each.bucket}
    latest: dict[tuple[Any, ...], Any] = {}
    rows = []
    for start in starts:
        for group in groups:
            here = known.get((start.astimezone(UTC), group))
            if here is None:
                value = 0 if query.fill == 0 else latest.get(group)
                here = Found(start, group, value)
            if query.fill == "previous":
                latest[group] = here.result
            rows.append(here)
    return rows


def reading_as_event(
    schema: ReadingSchema, row: Mapping[str, Any], fields: Sequence[str] | None
) -> dict[str, Any]:
    """Return a row of a model, by ``attname``, in the form of an event."""
    device = None if schema.device is None else row.get(schema.device.attname)
    names = [each.attname for each in schema.values] if fields is None else fields
    return {
        "id": str(row[schema.model._meta.pk.attname]),
        "measurement": schema.measurement,
        "time": row[TIME],
        "tags": {} if device is None else {"device_id": str(device)},
        "fields": {name: row[name] for name in names},
        "trace_id": None,
    }
