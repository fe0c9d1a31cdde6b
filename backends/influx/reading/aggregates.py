"""Aggregates: added up by InfluxDB where that is exact, finished here.

InfluxDB counts, adds up and finds extremes within cells: stretches of time that lie in one bucket
each, and in which the zone's offset does not change. It does so in its storage, without reading
the values one by one. Two things it does not do right are noticed and done here, from the values:
its sums of integers wrap around at 64 bits, and it knows no floats that count as integers.
Percentiles are of the values themselves, which are all read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tailrace.backends.reading.result import Found
from tailrace.pipeline.event import INT_MAX
from tailrace.pipeline.interval import ORIGIN, Buckets

from . import flux, stored
from .annotated import Block, result_of
from .flux import Flux
from .numbers import VALUES_MAX, Numbers, Values
from .selection import Ask, Selection, of_fields, to_datetime, to_ns

SPANS_A_QUERY = 10
_DAY_SECONDS = 86_400
_WINDOW_MAX_SECONDS = 100 * 366 * _DAY_SECONDS
_NS_A_SECOND = 1_000_000_000
_SECONDS_KEPT = 100_000
_EXACT_FLOAT = 1e16
_WHOLE = ("count", "sum", "min", "max")
_MERGED = {"count": "sum", "sum": "sum", "min": "min", "max": "max"}
_ORIGIN_SECONDS = (ORIGIN - datetime(1970, 1, 1)).days * _DAY_SECONDS

Place = tuple[datetime | None, tuple[str | None, ...]]
"""Bucket in UTC, and group."""


class Span(NamedTuple):
    """A stretch of time in which a zone's offset stays the same."""

    start_ns: int
    end_ns: int
    offset_seconds: int


class Question(NamedTuple):
    """What is asked of the selected points."""

    function: str
    percent: int | None
    keys: tuple[str, ...]
    """Stored fields whose values count."""
    group_by: tuple[str, ...]
    """Tags as they are stored."""
    buckets: Buckets | None


def compute(ask: Ask, chosen: Selection, question: Question) -> Iterator[Found]:
    """Yield the results, one a bucket and group; groups have their tags as events have them.

    Raises:
        ValueError: a percentile of more values than fit the memory.
    """
    starts = Starts(question.buckets)
    results: Mapping[Place, Any]
    if question.percent is not None:
        results = _percentiles(ask, chosen, question, starts)
    elif question.function == "count":
        results = _counts(ask, chosen, question, starts)
    else:
        parts = _from_cells(ask, chosen, question, starts)
        if parts is None:
            parts = _from_values(ask, chosen, question, starts)
        results = {place: each.result(question.function) for place, each in parts.items()}
    for (moment, group), result in results.items():
        if result is not None:
            plain = tuple(None if tag is None else stored.plain_tag_value(tag) for tag in group)
            yield Found(None if moment is None else starts.local(moment), plain, result)


# --- from cells


class Cell(NamedTuple):
    """Where a part belongs."""

    start_ns: int
    group: tuple[str | None, ...]
    key: str


def _counts(ask: Ask, chosen: Selection, question: Question, starts: Starts) -> dict[Place, int]:
    counts: dict[Place, int] = defaultdict(int)
    for parts in _cells(ask, chosen, question, ("count",)):
        for cell, found in parts.items():
            counts[starts.utc(cell.start_ns), cell.group] += found["count"]
    return counts


def _from_cells(
    ask: Ask, chosen: Selection, question: Question, starts: Starts
) -> dict[Place, Numbers] | None:
    """Return the parts of each place; ``None`` if InfluxDB's arithmetic would not be exact."""
    numbers: dict[Place, Numbers] = defaultdict(Numbers)
    functions = _WHOLE if question.function in ("sum", "avg") else ("min", "max")
    for parts in _cells(ask, chosen, question, functions):
        for cell, found in parts.items():
            low, high, count = found["min"], found["max"], found.get("count", 1)
            farthest = max(abs(low), abs(high))
            if isinstance(low, float):
                if farthest >= _EXACT_FLOAT:
                    return None
            elif "sum" in found and count * farthest > INT_MAX:
                return None
            added_up = found.get("sum", low)
            numbers[starts.utc(cell.start_ns), cell.group].add_part(count, added_up, low, high)
    return numbers


def _cells(
    ask: Ask, chosen: Selection, question: Question, functions: tuple[str, ...]
) -> Iterator[dict[Cell, dict[str, Any]]]:
    """Yield what the functions are of each cell, some stretches of time at once."""
    spans = list(spans_of(chosen, question.buckets))
    for at in range(0, len(spans), SPANS_A_QUERY):
        some = spans[at : at + SPANS_A_QUERY]
        statements = [
            _cells_of(chosen, question, function, number, span)
            for number, span in enumerate(some)
            for function in functions
        ]
        parts: dict[Cell, dict[str, Any]] = defaultdict(dict)
        for row in ask(flux.program(*statements)):
            block, cells = row
            number, _, function = result_of(row).partition(" ")
            # Where windows are cut at the ends of the range is up to the version of Flux.
            start_ns = max(
                some[int(number)].start_ns, block.value(cells, "_start") or flux.NS_FIRST
            )
            group = group_of(block, cells, question.group_by)
            key = Cell(start_ns, group, block.value(cells, "_field"))
            parts[key][function] = block.value(cells, "_value")
        yield parts


def _cells_of(
    chosen: Selection, question: Question, function: str, number: int, span: Span
) -> Flux:
    columns = ["_field", *question.group_by]
    steps = [chosen.within(span.start_ns, span.end_ns).points(of_fields(question.keys))]
    if question.buckets is not None and not is_long(question.buckets):
        columns.append("_start")
        steps.append(flux.window(*cell_width(question.buckets, span.offset_seconds)))
    elif span.end_ns <= 0:
        # Without windows, InfluxDB 2.7 answers without end where all of the range is before 1970.
        steps.append(flux.window(_WINDOW_MAX_SECONDS, 0))
    steps += [
        flux.aggregate(function),
        flux.group(columns),
        flux.aggregate(_MERGED[function]),
        flux.keep([*columns, "_value"]),
        flux.yields(f"{number} {function}"),
    ]
    return flux.pipeline(*steps)


def spans_of(chosen: Selection, buckets: Buckets | None) -> Iterator[Span]:
    """Yield the stretches of a selection's window in which the offset stays the same.

    Very long buckets are stretches themselves: Flux's windows are of 292 years at most.
    """
    if buckets is None:
        yield Span(chosen.start_ns, chosen.end_ns, 0)
        return
    changes = [to_ns(each.start) for each in buckets.segments[1:]]
    starts, ends = [flux.NS_FIRST, *changes], [*changes, flux.NS_END]
    for segment, start_ns, end_ns in zip(buckets.segments, starts, ends, strict=True):
        there = chosen.within(start_ns, end_ns)
        if there.start_ns < there.end_ns:
            span = Span(there.start_ns, there.end_ns, segment.offset_seconds)
            yield from _cut(span, buckets) if is_long(buckets) else (span,)


def is_long(buckets: Buckets) -> bool:
    """Return whether buckets are longer than what Flux makes windows of."""
    return buckets.interval.seconds > _WINDOW_MAX_SECONDS


def _cut(span: Span, buckets: Buckets) -> Iterator[Span]:
    width_ns = buckets.interval.seconds * _NS_A_SECOND
    origin_ns = (_ORIGIN_SECONDS - span.offset_seconds) * _NS_A_SECOND
    start_ns = span.start_ns
    while start_ns < span.end_ns:
        end_ns = origin_ns + ((start_ns - origin_ns) // width_ns + 1) * width_ns
        yield Span(start_ns, min(end_ns, span.end_ns), span.offset_seconds)
        start_ns = end_ns


def cell_width(buckets: Buckets, offset_seconds: int) -> tuple[int, int]:
    """Return the width of cells, and where they start: both in seconds.

    Months differ in length, so they are put together of days.
    """
    width = buckets.interval.seconds or _DAY_SECONDS
    return width, (_ORIGIN_SECONDS - offset_seconds) % width


# --- from values


def _from_values(
    ask: Ask, chosen: Selection, question: Question, starts: Starts
) -> dict[Place, Numbers]:
    numbers: dict[Place, Numbers] = defaultdict(Numbers)
    for place, value in _values(ask, chosen, question, starts):
        numbers[place].add(value)
    return numbers


def _percentiles(
    ask: Ask, chosen: Selection, question: Question, starts: Starts
) -> dict[Place, float | None]:
    values: dict[Place, Values] = defaultdict(Values)
    count = 0
    for place, value in _values(ask, chosen, question, starts):
        count += values[place].add(value)
        if count > VALUES_MAX:
            raise ValueError(
                f"{question.function} of more than {VALUES_MAX:,} values: InfluxDB has no exact "
                "percentiles, so that all values are read; ask for a shorter window"
            )
    percent = question.percent or 0
    return {place: each.percentile(percent) for place, each in values.items()}


def _values(
    ask: Ask, chosen: Selection, question: Question, starts: Starts
) -> Iterator[tuple[Place, Any]]:
    columns = ["_field", "_time", "_value", *question.group_by]
    query = flux.program(flux.pipeline(chosen.points(of_fields(question.keys)), flux.keep(columns)))
    block: Block | None = None
    for row_block, cells in ask(query):
        if row_block is not block:
            block = row_block
            at_time, read_time = block.reader("_time")
            at_value, read_value = block.reader("_value")
        group = group_of(block, cells, question.group_by)
        yield (starts.utc(read_time(cells[at_time])), group), read_value(cells[at_value])


# --- shared


def group_of(block: Block, cells: list[str], keys: Iterable[str]) -> tuple[str | None, ...]:
    """Return a row's tags as they are stored; no tag's value is empty there."""
    return tuple(block.value(cells, key) or None for key in keys)


class Starts:
    """The starts of buckets; those of the same second are looked up once."""

    def __init__(self, buckets: Buckets | None) -> None:
        """Take the buckets; ``None`` where there are none."""
        self._buckets = buckets
        self._utc_by_second: dict[int, datetime] = {}
        self._local_by_utc: dict[datetime, datetime] = {}

    def utc(self, time_ns: int) -> datetime | None:
        """Return the start of the bucket of a time, in UTC: other zones compare by wall clock."""
        if self._buckets is None:
            return None
        second = time_ns // _NS_A_SECOND
        found = self._utc_by_second.get(second)
        if found is None:
            start = self._buckets.start_of(to_datetime(second * _NS_A_SECOND))
            found = start.astimezone(UTC)
            self._local_by_utc[found] = start
            if len(self._utc_by_second) >= _SECONDS_KEPT:
                self._utc_by_second.clear()
            self._utc_by_second[second] = found
        return found

    def local(self, start: datetime) -> datetime:
        """Return a start that :meth:`utc` gave, in the zone asked for."""
        return self._local_by_utc[start]
