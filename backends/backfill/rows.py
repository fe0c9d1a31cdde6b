"""Rows of a database as events, and where their slices are cut.

Both kinds of rows have a time with an index: those of ``tailrace_event`` and those of a model
of readings. A slice is a window of time with about so many rows; all rows of an instant are
in the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.utils import timezone

from tailrace.backends.model_tables import ModelTable, table_of
from tailrace.backends.readings import reading_event
from tailrace.pipeline.backfill.digest import canonical_fields
from tailrace.pipeline.event import Event, ns_from_datetime

from .selection import Selection, Window, window_slice

PIECE_ROWS = 2_000
_REASONS_TOLD = 3
_COUNT_MAX_ROWS = 20_000_000
"""Where PostgreSQL expects more, its word is taken: counting would take a minute."""
_MICROSECOND = timedelta(microseconds=1)
_COLUMNS = ("uid", "time", "measurement", "tags", "fields", "trace_id")
_encode = msgspec.json.Encoder(order="sorted").encode


class Rows:
    """The rows of a selection on a database alias; a subclass says which table has them."""

    time_name = "time"

    def __init__(self, using: str, selection: Selection) -> None:
        """Keep both; ask nothing yet.

        Args:
            using: The database alias.
            selection: Which rows.
        """
        self.using = using
        self.selection = selection

    @property
    def all(self) -> Any:
        """A query set of the rows, whatever their time."""
        raise NotImplementedError

    def events(self, window: Window) -> Iterator[Sequence[Event]]:
        """Yield the rows of a window as events, in pieces."""
        raise NotImplementedError

    def within(self, window: Window) -> Any:
        """Return a query set of the rows of a window."""
        found = {}
        for bound, name in ((window.start, "gte"), (window.end, "lt")):
            if bound is not None:
                found[f"{self.time_name}__{name}"] = _as_django_has_it(bound)
        return self.all.filter(**found)

    def windows(self) -> Iterator[tuple[Window, int]]:
        """Yield the windows of the slices, with about how many rows each has."""
        name, step = self.time_name, self.selection.slice_rows
        rows = self.within(self.selection.window).order_by(name).values_list(name, flat=True)
        start, last = _aware(rows.first()), _aware(rows.last())
        if start is None or last is None:
            return
        end = last + _MICROSECOND
        while start is not None:
            rest = self.within(Window(start, end)).order_by(name).values_list(name, flat=True)
            found = rest[step : step + 1]
            cut = _aware(next(iter(found), None))
            if cut == start:  # more rows in one instant than a slice has
                later = self.within(Window(start + _MICROSECOND, end)).order_by(name)
                cut = _aware(later.values_list(name, flat=True).first())
            window = Window(start, cut or end)
            yield window, step if cut else self.within(window).count()
            start = cut

    def count(self) -> tuple[int, bool]:
        """Return how many rows there are, and whether they were counted."""
        rows = self.within(self.selection.window)
        connection = connections[self.using]
        if connection.vendor == "postgresql":
            plan = msgspec.json.decode(rows.order_by().explain(format="json"))
            expected = int(plan[0]["Plan"]["Plan Rows"])
            if expected > _COUNT_MAX_ROWS:
                return expected, False
        return rows.count(), True

    def bytes_a_row(self) -> int:
        """Return about how large a row is, by a few of them."""
        piece = next(iter(self.events(self.selection.window)), ())[:100]
        sizes = [len(_encode((e.tags, e.fields))) + len(e.measurement) + 60 for e in piece]
        return sum(sizes) // len(sizes) if sizes else 0


class EventRows(Rows):
    """Rows of ``tailrace_event``."""

    @property
    def all(self) -> Any:
        objects = apps.get_model("tailrace", "Event").objects.using(self.using)
        return objects.filter(measurement=self.selection.measurement)

    def events(self, window: Window) -> Iterator[Sequence[Event]]:
        yield from in_pieces(self.within(window).values_list(*_COLUMNS), event_of)


class ReadingRows(Rows):
    """Rows of a model of readings.

    They have no id that two databases would share: what a reading says is what it is, and two
    equal ones are two.
    """

    time_name = "timestamp"

    def __init__(self, using: str, selection: Selection) -> None:
        super().__init__(using, selection)
        self.table = table_of(selection.model)

    @property
    def all(self) -> Any:
        return self.table.model._base_manager.using(self.using)

    def events(self, window: Window) -> Iterator[Sequence[Event]]:
        names = [field.attname for field in self.table.fields]
        values = self.within(window).values_list(*names)
        yield from in_pieces(values, self._event_of)

    def _event_of(self, row: Sequence[Any]) -> Event:
        device, moment = row[self.table.device_place or 0], None
        data: dict[str, Any] = {}
        for place, field in enumerate(self.table.fields):
            if place == self.table.time_place:
                moment = _aware(row[place])
            elif place != self.table.device_place:
                data[field.attname] = row[place]
        assert moment is not None, "a reading has a time"
        event = reading_event(self.table.model, device, moment, data)
        event.id = reading_id(self.table, row, event.time_ns)
        return event


def rows_of(using: str, selection: Selection) -> Rows:
    """Return the rows of a selection: a model's where one has this measurement."""
    kind = EventRows if selection.model is None else ReadingRows
    return kind(using, selection)


def slices_of(rows: Rows) -> Iterator[Any]:
    """Yield the slices of rows."""
    for window, amount in rows.windows():
        yield window_slice(window, amount)


def in_pieces(rows: Any, make: Any) -> Iterator[Sequence[Event]]:
    """Yield what is made of the rows of a query set, never many at a time."""
    piece: list[Event] = []
    for row in rows.iterator(chunk_size=PIECE_ROWS):
        piece.append(make(row))
        if len(piece) == PIECE_ROWS:
            yield piece
            piece = []
    if piece:
        yield piece


def event_of(row: Sequence[Any]) -> Event:
    """Return a row of ``tailrace_event`` as the event that it was."""
    uid, moment, measurement, tags, fields, trace_id = row
    return Event(
        measurement=measurement,
        time_ns=ns_from_datetime(_aware(moment) or moment),
        tags=tags,
        fields=fields,
        trace_id=trace_id or None,
        id=uid.bytes,
    )


def content_id(event: Event) -> bytes:
    """Return 16 bytes that follow from what a reading says."""
    content = (event.measurement, event.time_ns // 1000, event.tags, canonical_fields(event.fields))
    return blake2b(_encode(content), digest_size=16).digest()


def reading_id(table: ModelTable, row: Sequence[Any], time_ns: int) -> bytes:
    """Return 16 bytes that follow from what a reading says, the same whoever stores it.

    Args:
        table: The model's.
        row: Its values, in the order of the table's fields.
        time_ns: When it was measured.
    """
    said = {
        field.attname: _canonical(value)
        for place, (field, value) in enumerate(zip(table.fields, row, strict=True))
        if value is not None and place != table.time_place
    }
    content = (table.measurement, time_ns // 1000, said)
    return blake2b(_encode(content), digest_size=16).digest()


def id_of_reading(table: ModelTable, event: Event) -> bytes:
    """Return what :func:`reading_id` gives for the row that an event would be."""
    try:
        return reading_id(table, table.row(event), event.time_ns)
    except ValueError:  # no such row can be; whoever stores it says why
        return content_id(event)


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # some storages do not tell them apart
    if isinstance(value, Decimal):
        return value.normalize()
    if isinstance(value, datetime):
        aware = _aware(value)
        return aware.astimezone(UTC) if aware is not None else None
    return bytes(value) if isinstance(value, memoryview) else value


def missing_of(
    events: Iterable[Event], there: Iterable[bytes], counts_equal_ones: bool
) -> list[Event]:
    """Return the events that are not there.

    Args:
        events: What is to be there.
        there: Ids of those of the target among which they could be.
        counts_equal_ones: Whether two with the same id are two, as readings are.
    """
    found = Counter(there)
    missing = []
    for event in events:
        if found[event.id] > 0:
            found[event.id] -= counts_equal_ones
        else:
            missing.append(event)
    return missing


def told(reasons: Sequence[str]) -> tuple[str, ...]:
    """Return what a log says of events that were refused: the usual reasons, and how often."""
    counts = Counter(reasons).most_common(_REASONS_TOLD)
    return tuple(f"{amount} refused: {reason}" for reason, amount in counts)


def _aware(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return timezone.make_aware(moment).astimezone(UTC)


def _as_django_has_it(moment: datetime) -> datetime:
    return moment if settings.USE_TZ else timezone.make_naive(moment)
