"""Answers from rollups: buckets that are right, joined with rows for all that is not.

A bucket is right if nothing in its level's logs or its source's touches it, and it ends before the
threshold. All others are read from a finer level, and in the end from the rows; so an answer never
depends on how far refreshes have come. State, buckets and rows are of one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.apps import apps

from tailrace.backends.reading.arguments import zone_is_fixed
from tailrace.backends.reading.columns import ReadingSchema
from tailrace.backends.reading.query import AggregateQuery, Window
from tailrace.backends.reading.result import Found, answer
from tailrace.backends.reading.tables import Table, check_clock
from tailrace.pipeline.interval import Buckets
from tailrace.pipeline.rollup import Rollup

from .buckets import extent, merge_buckets
from .declaration import from_text
from .grid import grid_of
from .groups import Group, group_reader
from .invalidation import has_tables
from .log import objects, owners_of_level
from .partial import ROWS, Partial
from .plan import Level, Plan, has_whole_buckets, make_plan, wrong_ranges
from .ranges import MAX_US, MIN_US, Range, datetime_of, us_of
from .snapshot import snapshot
from .statement import PartialQuery, partials

_ANY = datetime(2000, 1, 1, tzinfo=UTC)

Merged = dict[tuple[int | None, Group], Partial]
"""Partials by the start of the question's bucket, in microseconds, and by group."""


@dataclass(frozen=True)
class Candidate:
    """A rollup that has what is asked for."""

    rollup: Rollup
    rows: tuple[Any, ...]
    """Its rows of ``RollupLevel``."""


def answer_from_rollups(backend: str, asked: AggregateQuery, table: Table) -> Any:
    """Answer a question, as far as possible from what rollups have computed.

    Args:
        backend: The alias of the backend whose rollups to use.
        asked: The question.
        table: Where the rows are; its connection is one of our own.

    Returns:
        What :meth:`Reader.aggregate` returns; ``None`` where no rollup can help.
    """
    connection = table.dialect.connection
    if connection.in_atomic_block or not has_tables(connection):
        return None
    # Outside of a snapshot first: most questions are about what has no rollup.
    if not _candidates(backend, asked, connection.alias):
        return None
    if asked.interval is not None:
        check_clock(connection)
    with snapshot(connection):
        return _Answer(backend, asked, table).found()


def _candidates(backend: str, asked: AggregateQuery, using: str) -> list[Candidate]:
    """Return the rollups that know the fields, groups and functions asked for."""
    sources = _source_names(asked.source)
    model = apps.get_model("tailrace", "RollupLevel")
    rows = model._base_manager.using(using).filter(backend=backend, source__in=sources)
    by_name: dict[str, list[Any]] = {}
    for row in rows.order_by("rollup", "level"):
        # MySQL may take "Request" for "request".
        if row.backend == backend and row.source in sources:
            by_name.setdefault(row.rollup, []).append(row)
    found = []
    for name, listed in by_name.items():
        rollup = from_text(name, listed[0].declaration)
        if _knows(rollup, asked):
            found.append(Candidate(rollup, tuple(listed)))
    # The coarsest one, and then the one with the fewest groups, has the least to read.
    found.sort(key=lambda each: len(each.rollup.group_by))
    return found


def _source_names(source: str | ReadingSchema) -> list[str]:
    return [source] if isinstance(source, str) else [source.label, source.measurement]


def _knows(rollup: Rollup, asked: AggregateQuery) -> bool:
    names = _Names(asked.source)
    if asked.field is not None and asked.field not in map(names.plain, rollup.fields):
        return False
    if asked.percent is not None and not rollup.has_sketch:
        return False
    wanted = {names.plain(each) for each in (*asked.group_by, *asked.tags)}
    return wanted <= {names.plain(each) for each in rollup.group_by}


class _Names:
    """One name for what has several: a model's column can be ``device`` and ``device_id``."""

    def __init__(self, source: str | ReadingSchema) -> None:
        self._source = source

    def plain(self, name: Any) -> str:
        """Return the name of a tag or field, or of a column's name or Django field."""
        if isinstance(self._source, str):
            return str(name)
        column = self._source.columns.get(name) if isinstance(name, str) else name
        return str(name) if column is None else str(column.attname)


class _Answer:
    """One question, within a snapshot."""

    def __init__(self, backend: str, asked: AggregateQuery, table: Table) -> None:
        self._backend, self._asked, self._table = backend, asked, table
        self._using = table.dialect.connection.alias
        self._names = _Names(asked.source)

    def found(self) -> Any:
        """Return the answer; ``None`` where nothing of it is computed."""
        for candidate in _candidates(self._backend, self._asked, self._using):
            window = self._window(candidate)
            if window is None:
                return answer(self._asked, [], None)
            plan = self._plan(candidate, window)
            if plan is not None and plan.ready:
                return self._read(candidate.rollup, plan, window)
        return None

    def _window(self, candidate: Candidate) -> Window | None:
        """Return the window, closed where the zone's offsets in it must be known."""
        asked = self._asked
        window = asked.window
        is_closed = window.start is not None and window.end is not None
        if asked.interval is None or is_closed or zone_is_fixed(asked.zone):
            return window
        low, high = self._table.extremes(window)
        grids = [self._grid(candidate.rollup, row) for row in candidate.rows]
        known = extent(self._using, [row.id for row in candidate.rows])
        starts = [] if low is None else [us_of(low)]
        ends = [] if high is None else [us_of(high) + 1]
        for grid, (first, last) in zip(grids, known, strict=True):
            if first is not None and last is not None:
                starts.append(first)
                ends.append(grid.after(grid.floor(last)))
        if not starts:
            return None
        start = window.start or datetime_of(min(starts))
        end = window.end or datetime_of(max(ends))
        return Window(start, end) if start < end else None

    def _grid(self, rollup: Rollup, row: Any) -> Any:
        return grid_of(rollup.widths[row.level], rollup.zone_name)

    def _plan(self, candidate: Candidate, window: Window) -> Plan | None:
        asked, rollup = self._asked, candidate.rollup
        start, last = window.start or window.last or _ANY, window.last or window.start or _ANY
        fitting = [
            row
            for row in candidate.rows
            if has_whole_buckets(self._grid(rollup, row), asked.interval, asked.zone, start, last)
        ]
        if not fitting:
            return None
        span = Range(
            MIN_US if window.start is None else us_of(window.start),
            MAX_US if window.end is None else us_of(window.end),
        )
        return make_plan(span, self._levels(rollup, fitting, span))

    def _levels(self, rollup: Rollup, rows: Sequence[Any], span: Range) -> list[Level]:
        sources = apps.get_model("tailrace", "RollupSource")._base_manager.using(self._using)
        name = rows[0].source
        found = sources.filter(backend=self._backend, source=name)
        source = next((each for each in found if each.source == name), None)
        if source is None:
            return []
        owners = {row.id: owners_of_level(row.id, source.id) for row in rows}
        log: dict[str, list[Range]] = {}
        entries = objects(self._using).filter(
            owner__in=sorted({owner for each in owners.values() for owner in each}),
            low_us__lt=span.high,
            high_us__gt=span.low,
        )
        for owner, low, high in entries.values_list("owner", "low_us", "high_us"):
            log.setdefault(owner, []).append(Range(low, high))
        return [
            Level(
                row.id,
                self._grid(rollup, row),
                wrong_ranges(
                    [each for owner in owners[row.id] for each in log.get(owner, ())],
                    row.floor_us,
                    source.threshold_us,
                ),
            )
            for row in rows
        ]

    # --- reading

    def _read(self, rollup: Rollup, plan: Plan, window: Window) -> Any:
        asked = replace(self._asked, window=window)
        buckets = None
        if asked.interval is not None:
            start = window.start or window.last or _ANY
            buckets = Buckets(asked.interval, asked.zone, start, window.last or start)
        merged: Merged = {}
        merge_buckets(
            self._table.dialect,
            plan,
            field=self._field(rollup),
            function=asked.function,
            place=_Place(buckets, self._chosen(rollup)),
            merged=merged,
        )
        for cell in partials(self._table, self._raw_query(), plan.raw):
            key = cell.bucket_us, cell.group
            known = merged.get(key)
            if known is None:
                merged[key] = cell.partial
            else:
                known.merge(cell.partial)
        return answer(asked, self._results(merged), buckets)

    def _field(self, rollup: Rollup) -> str:
        if self._asked.field is None:
            return ROWS
        return next(each for each in rollup.fields if self._names.plain(each) == self._asked.field)

    def _chosen(self, rollup: Rollup) -> Callable[[str], Group | None]:
        """Return what makes the question's group of a rollup's; ``None`` if it is filtered out."""
        asked, names = self._asked, self._names
        known = [names.plain(each) for each in rollup.group_by]
        kept = [known.index(names.plain(each)) for each in asked.group_by]
        filters = [(known.index(names.plain(n)), set(wanted)) for n, wanted in asked.tags.items()]
        read = group_reader(asked.source, rollup.group_by)

        def chosen(text: str) -> Group | None:
            group = read(text)
            if not all(group[at] in wanted for at, wanted in filters):
                return None
            return tuple(group[at] for at in kept)

        return chosen

    def _raw_query(self) -> PartialQuery:
        asked = self._asked
        return PartialQuery(
            fields=(ROWS if asked.field is None else asked.field,),
            group_by=asked.group_by,
            filters=asked.tags,
            interval=asked.interval,
            zone=asked.zone,
            has_sketch=asked.percent is not None,
        )

    def _results(self, merged: Merged) -> Iterator[Found]:
        asked = self._asked
        places = None if asked.field is None else self._table.decimal_places(asked.field)
        for (bucket_us, group), partial in merged.items():
            result = partial.final(asked.function, places)
            if result is None or (asked.function == "count" and not result):
                continue
            bucket = None
            if bucket_us is not None:
                bucket = datetime_of(bucket_us).astimezone(asked.zone)
            yield Found(bucket, group, result)


class _Place:
    """Where a bucket of a level belongs in the answer; remembers what it has worked out."""

    def __init__(self, buckets: Buckets | None, chosen: Callable[[str], Group | None]) -> None:
        self._buckets, self._chosen = buckets, chosen
        self._starts: dict[int, int | None] = {}
        self._groups: dict[str, Group | None] = {}

    def start(self, bucket_us: int) -> int | None:
        """Return the start of the question's bucket that a level's lies in."""
        if self._buckets is None:
            return None
        if bucket_us not in self._starts:
            self._starts[bucket_us] = us_of(self._buckets.start_of(datetime_of(bucket_us)))
        return self._starts[bucket_us]

    def group(self, text: str) -> Group | None:
        """Return the question's group, ``None`` if it is filtered out."""
        if text not in self._groups:
            self._groups[text] = self._chosen(text)
        return self._groups[text]
