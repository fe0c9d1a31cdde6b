"""Rows of tables that are not ours, by ranges of their primary key."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple

from django.apps.registry import Apps
from django.db import connections, models
from django.utils import timezone

from tailrace.backends.django_errors import translated_errors
from tailrace.backends.private_connection import private_connection
from tailrace.pipeline.backfill.contracts import BackfillRefused, Estimate, Slice
from tailrace.pipeline.event import INVALID_MEASUREMENT, Event
from tailrace.pipeline.interchange import BadRecord, Draft, EventMaker, Identity
from tailrace.pipeline.shown import show, show_error

SLICE_ROWS = 2_000
"""A row may hold a body of 64 KB, and a slice's events are in memory at once."""
PAGE_ROWS = 200

# What reading a column raises whose text is not of the column's type.
_UNREADABLE = (ValueError, TypeError, AttributeError, OverflowError)

Row = dict[str, Any]


class PeerTable(NamedTuple):
    """A table of another tool."""

    name: str
    """In the database."""
    columns: Mapping[str, models.Field[Any, Any]]
    """Those that are read, the primary key first; older versions may lack some."""
    required: frozenset[str]
    """Without these, it is not the table that we know."""

    @property
    def key(self) -> str:
        """The name of the primary key."""
        return next(iter(self.columns))


class Part(NamedTuple):
    """What becomes of the rows of a table."""

    table: PeerTable
    draft: Callable[[Row], Draft]
    """Makes an event of a row; raises :class:`BadRecord` if it cannot."""
    related: Callable[[Sequence[Row], Reader], None] | None = None
    """Adds to a page of rows what stands in other tables."""


class Reader:
    """Reads tables of one database alias, with connections of our own."""

    def __init__(self, alias: str, zone: tzinfo | None) -> None:
        """Take the database.

        Args:
            alias: In ``DATABASES``.
            zone: Of times that are stored without one, where Django's setting for the alias is
                not the one that they were written with.
        """
        self.alias = alias
        self._zone = zone

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Have the alias mean our own connection, and errors be Tailrace's."""
        with translated_errors(self.alias), private_connection(self.alias):
            yield

    def check(self, table: PeerTable) -> None:
        """Look whether the table is there, and is the one we know.

        Raises:
            BackfillRefused: it is not.
        """
        present = self.columns_of(table)
        if not present:
            raise BackfillRefused(
                f"database {self.alias!r} has no table {table.name}; choose the database that the "
                "other tool stored its history in"
            )
        missing = sorted(table.required - present)
        if missing:
            raise BackfillRefused(
                f"the table {table.name} has no columns {', '.join(missing)}: this version of the "
                "other tool is not known"
            )

    def columns_of(self, table: PeerTable) -> frozenset[str]:
        """Return which of the table's columns there are; none if there is no such table."""
        with self.connected():
            connection = connections[self.alias]
            with connection.cursor() as cursor:
                if table.name not in connection.introspection.table_names(cursor):
                    return frozenset()
                found = connection.introspection.get_table_description(cursor, table.name)
            return frozenset(column.name for column in found) & frozenset(table.columns)

    def rows(self, table: PeerTable) -> Any:
        """Return a query set of the table."""
        return _model(table.name, tuple(table.columns.items())).objects.using(self.alias)

    def aware(self, moment: Any) -> datetime:
        """Return a time of a row, in UTC.

        Raises:
            BadRecord: it is none.
        """
        if not isinstance(moment, datetime):
            raise BadRecord(f"the time is {show(moment)}")
        database_zone = connections[self.alias].timezone or timezone.get_default_timezone()
        zoned = moment.replace(tzinfo=database_zone) if moment.tzinfo is None else moment
        if self._zone is not None and not connections[self.alias].features.supports_timezones:
            # Django took the text for a time of its own zone; it was one of the other tool's.
            zoned = zoned.astimezone(database_zone).replace(tzinfo=self._zone)
        return zoned.astimezone(UTC)


class TableSource:
    """A source of the engine: all rows of some tables."""

    def __init__(
        self, reader: Reader, parts: Mapping[str, Part], maker: EventMaker, identity: Identity
    ) -> None:
        """Take what is to be read.

        Args:
            reader: Of the database.
            parts: What becomes of which table, by a name.
            maker: Checks the events.
            identity: Of rows that cannot be read, so that they have an id, too.
        """
        self._reader = reader
        self._parts = parts
        self._maker = maker
        self._identity = identity

    def check(self) -> None:
        """Look whether the tables are there.

        Raises:
            BackfillRefused: one is not, or none of them has a row.
        """
        for part in self._parts.values():
            self._reader.check(part.table)
        if not self.estimate().rows:
            raise BackfillRefused(f"the tables in database {self._reader.alias!r} are empty")

    def estimate(self) -> Estimate:
        """Return how many rows there are; counting them is one pass over an index."""
        with self._reader.connected():
            rows = sum(self._reader.rows(part.table).count() for part in self._parts.values())
        return Estimate(rows=rows, is_exact=True)

    def slices(self) -> Iterator[Slice]:
        """Yield ranges of primary keys, table by table."""
        for name, part in self._parts.items():
            key, after = part.table.key, None
            while True:
                with self._reader.connected():
                    rest = self._after(part, after)
                    keys = list(rest.order_by(key).values_list(key, flat=True)[:SLICE_ROWS])
                if not keys:
                    break
                until = keys[-1]
                yield Slice(
                    label=f"{name} up to {key} {until}",
                    rows=len(keys),
                    spec={"part": name, "after": _json(after), "until": _json(until)},
                )
                after = until

    def read(self, slice_: Slice) -> Iterator[list[Event]]:
        """Yield a slice's events; a row that cannot be one is rejected with the reason."""
        part = self._parts[slice_.spec["part"]]
        key, after, until = part.table.key, slice_.spec["after"], slice_.spec["until"]
        present = self._reader.columns_of(part.table)
        while True:
            with self._reader.connected():
                range_ = self._after(part, after).filter(**{f"{key}__lte": until}).order_by(key)
                keys = list(range_.values_list(key, flat=True)[:PAGE_ROWS])
                if not keys:
                    return
                rows, events = self._page(part, keys, present)
                if part.related is not None:
                    part.related(rows, self._reader)
                drafts: list[Draft] = []
                for row in rows:
                    try:
                        drafts.append(part.draft(row))
                    except BadRecord as error:
                        events.append(self._bad(part, row[key], str(error)))
            yield self._maker.make(drafts) + events
            after = keys[-1]

    def _after(self, part: Part, after: Any) -> Any:
        rows = self._reader.rows(part.table)
        return rows if after is None else rows.filter(**{f"{part.table.key}__gt": after})

    def _page(
        self, part: Part, keys: Sequence[Any], present: frozenset[str]
    ) -> tuple[list[Row], list[Event]]:
        rows = self._reader.rows(part.table).filter(**{f"{part.table.key}__in": keys})
        try:
            return list(rows.order_by(part.table.key).values(*present)), []
        except _UNREADABLE:
            return self._one_by_one(part, keys, present)

    def _one_by_one(
        self, part: Part, keys: Sequence[Any], present: frozenset[str]
    ) -> tuple[list[Row], list[Event]]:
        """Find the rows that cannot be read."""
        rows, bad = [], []
        for key in keys:
            try:
                found = self._reader.rows(part.table).filter(**{part.table.key: key})
                rows += list(found.values(*present))
            except _UNREADABLE as error:
                bad.append(self._bad(part, key, f"it cannot be read: {show_error(error)}"))
        return rows, bad

    def _bad(self, part: Part, key: Any, reason: str) -> Event:
        where = f"{part.table.name}, {part.table.key} {key}"
        uid = self._identity.uid(part.table.name, str(key))
        return Event(INVALID_MEASUREMENT, 0, {}, {"row": where}, None, f"{where}: {reason}", uid)


@functools.lru_cache(maxsize=32)
def _model(table: str, columns: tuple[tuple[str, models.Field[Any, Any]], ...]) -> Any:
    """Return a model of a table, in a registry of its own: no app of the host's gets it."""
    meta = type(
        "Meta",
        (),
        {"apps": Apps(), "app_label": "tailrace_imports", "db_table": table, "managed": False},
    )
    # A field belongs to one model, so each gets its own.
    fields = {name: field.clone() for name, field in columns}
    return type("Row", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})


def _json(key: Any) -> Any:
    return key if key is None or isinstance(key, int) else str(key)
