"""What writers owe to rollups: to note, in the transaction of their rows, what they wrote too late.

A source has a threshold: what a refresh has reached. Rows after it are nobody's concern yet. Rows
before it change buckets that may have been computed, so their times are noted in the source's log,
and go with the rows, or not at all.

The order of things. A writer stores its rows, then holds its sources (shared) until it has
committed, and only then reads their thresholds. A refresh moves the threshold, holding the source
alone, in a transaction of its own, and reads rows afterwards. So a writer either is seen by that
refresh, or sees the new threshold.

**The gate** is a source without a name, held the same way before the others are looked for: who
declares a rollup holds it alone. Else a writer could look just before a source is there, and
commit just after that source's first refresh. SQLite has one writer at a time, and needs no
gate.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.apps import apps
from django.db import connections
from django.utils import timezone

from tailrace.backends.model_tables import TIME, ModelTable, Row
from tailrace.pipeline.event import Event
from tailrace.pipeline.faults import fault

from . import log
from .ranges import MIN_US, Range, covering, merged, us_of

logger = logging.getLogger("tailrace")

RANGES_MAX = 500
"""How many ranges one transaction notes of a source; with more, it notes larger ones."""
GATE = ""
_SHARED = {"sqlite": "", "postgresql": " FOR SHARE", "mysql": " LOCK IN SHARE MODE"}
"""Rollups work on these databases: those that aggregates are written for."""
_CHECK_AGAIN_SECONDS = 60.0


class Source(NamedTuple):
    """A row of ``RollupSource``."""

    id: int
    name: str
    threshold_us: int
    floor_us: int
    grain_us: int


class Written:
    """What a transaction has stored, until it knows whom that concerns."""

    def __init__(self, using: str) -> None:
        """Take the alias that the transaction is on."""
        self._using = using
        self._events: list[Sequence[Event]] = []
        self._rows: list[tuple[ModelTable, Sequence[Row]]] = []

    def add(self, events: Sequence[Event], rows: dict[ModelTable, list[Row]]) -> None:
        """Remember what was stored: events, and rows of models."""
        if events:
            self._events.append(events)
        self._rows += rows.items()

    def note(self) -> None:
        """Note what of it is late. The last thing before the commit: it holds the sources."""
        events, self._events = self._events, []
        rows, self._rows = self._rows, []
        names = {event.measurement for batch in events for event in batch}
        names |= {table.label for table, _ in rows}
        oldest_ns = min((event.time_ns for batch in events for event in batch), default=0)
        for source in hold_sources(self._using, names):
            threshold_ns = source.threshold_us * 1_000
            late: list[int] = []
            if oldest_ns < threshold_ns:  # seldom so
                late += (
                    event.time_ns // 1_000
                    for batch in events
                    for event in batch
                    if event.time_ns < threshold_ns and event.measurement == source.name
                )
            for table, listed in rows:
                if table.label == source.name:
                    late += row_times(table, listed)
            note_times(self._using, source, late)


def invalidate(using: str, source: str, low_us: int, high_us: int) -> None:
    """Have the buckets of a range computed again.

    For whoever changes or removes rows behind Tailrace's back: call it in the transaction that
    does so, at its end. It holds the source until that transaction is over.

    Args:
        using: The database alias, with that transaction.
        source: A measurement, or the label (``app.Model``) of a model of readings.
        low_us: First time that is concerned, in microseconds since 1970 (UTC).
        high_us: First time that is not any more.
    """
    for held in hold_sources(using, {source}):
        _note(using, held, [Range(low_us, high_us)])


def invalidate_times(using: str, source: str, times_us: Iterable[int]) -> None:
    """Do what :func:`invalidate` does, for rows at these times."""
    for held in hold_sources(using, {source}):
        note_times(using, held, times_us)


def note_times(using: str, source: Source, times_us: Iterable[int]) -> None:
    """Note the late ones of some times, in the transaction that holds the source."""
    late = [each for each in times_us if source.floor_us <= each < source.threshold_us]
    if late:
        _note(using, source, covering(late, source.grain_us, RANGES_MAX))


def hold_sources(using: str, names: Iterable[str]) -> list[Source]:
    """Hold sources until the end of the transaction, against refreshes but not other writers.

    Args:
        using: The database alias.
        names: Measurements and labels of models, which may have rollups or not.

    Returns:
        Those that have any, on whatever backend: those on one alias share their rows.
    """
    connection = connections[using]
    wanted = sorted(name for name in names if name)
    if not wanted or not has_tables(connection):
        return []
    if connection.vendor != "sqlite":
        _hold_gate(using)
    marks = ", ".join(["%s"] * len(wanted))
    found = _select(connection, f"source IN ({marks}) ORDER BY id", wanted)
    # MySQL may take "Request" for "request".
    return [each for each in found if each.name in wanted]


def row_times(table: ModelTable, rows: Sequence[Row]) -> list[int]:
    """Return the times of a model's rows, in microseconds since 1970."""
    places = [place for place, field in enumerate(table.fields) if field.name == TIME]
    found: list[int] = []
    for place in places:
        for row in rows:
            moment = row[place]
            if isinstance(moment, datetime):
                found += instants(moment)
            elif moment is not None:  # the database's own default
                found.append(time.time_ns() // 1_000)
    return found


def instants(moment: datetime | None) -> list[int]:
    """Return the times that a datetime can mean: a naive one may be there twice a year."""
    if moment is None:
        return []
    if timezone.is_aware(moment):
        return [us_of(moment)]
    zone = timezone.get_default_timezone()
    return [us_of(moment.replace(tzinfo=zone, fold=fold)) for fold in (0, 1)]


def has_tables(connection: Any) -> bool:
    """Return whether rollups can work on a connection: its database, and its migrations."""
    known = getattr(connection, "tailrace_rollup_tables", None)
    if known is True:
        return True
    if connection.vendor not in _SHARED or (known and known > time.monotonic()):
        return False
    table = _model()._meta.db_table
    if table in connection.introspection.table_names():
        connection.tailrace_rollup_tables = True
        return True
    if known is None:
        logger.warning(
            "database %r has no table %r: its rollups are off, and events are stored all the same. "
            "Run: manage.py migrate tailrace --database=%s",
            *(connection.alias, table, connection.alias),
        )
    connection.tailrace_rollup_tables = time.monotonic() + _CHECK_AGAIN_SECONDS
    return False


def _note(using: str, source: Source, ranges: Iterable[Range]) -> None:
    clipped = (
        Range(max(low, source.floor_us), min(high, source.threshold_us)) for low, high in ranges
    )
    noted = merged(clipped)
    if noted:
        log.add(using, log.source_owner(source.id), noted)
        fault("late_noted")


def _hold_gate(using: str) -> None:
    connection = connections[using]
    if not _select(connection, "source = %s AND backend = %s", [GATE, GATE]):
        make_gate(using)
        _select(connection, "source = %s AND backend = %s", [GATE, GATE])


def make_gate(using: str) -> None:
    """Make the gate, unless somebody else has; the transaction holds it then."""
    gate = _model()(backend=GATE, source=GATE, threshold_us=MIN_US, floor_us=MIN_US)
    _model()._base_manager.using(using).bulk_create([gate], ignore_conflicts=True)


def _select(connection: Any, condition: str, params: list[str]) -> list[Source]:
    """Return sources, held (shared) until the end of the transaction."""
    meta = _model()._meta
    names = ("id", "source", "threshold_us", "floor_us", "grain_us")
    columns = ", ".join(connection.ops.quote_name(meta.get_field(name).column) for name in names)
    table = connection.ops.quote_name(meta.db_table)
    held = _SHARED[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {table} WHERE {condition}{held}", params)
        return [Source(*row) for row in cursor.fetchall()]


def _model() -> Any:
    return apps.get_model("tailrace", "RollupSource")
