"""Hypertables of our own: the events', and those of models of readings."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import connections, router, transaction
from psycopg import sql

from tailrace.backends.partitions import LOCK_MS, PATIENCE_SECONDS, Dropped, MayGo, Partitions
from tailrace.backends.statements import statement
from tailrace.backends.written_models import is_reading, written_models
from tailrace.pipeline.errors import BackendError, NotSupportedByBackend
from tailrace.pipeline.interval import Interval

from .convert import find, time_column, to_hypertable
from .probe import Capabilities

logger = logging.getLogger("tailrace")

EVENTS = "tailrace_event"
EVENTS_TIME = "time"
_LOCK_TIMEOUT = "2s"
_LOCK_CHUNK = sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE")


def make_events_hypertable(
    alias: str, capabilities: Capabilities, chunk: Interval, *, with_rows: bool
) -> bool:
    """Make the table of events a hypertable.

    Args:
        alias: Its database.
        capabilities: What that has.
        chunk: How much time a chunk holds.
        with_rows: Whether to touch a table that is not empty.

    Returns:
        Whether it was done.

    Raises:
        NotSupportedByBackend: it has partitions of its own.
        django.db.Error: no lock was to be had in time.
    """
    return _make(alias, capabilities, EVENTS, EVENTS_TIME, chunk, with_rows, False)


def make_reading_hypertables(alias: str, capabilities: Capabilities, chunk: Interval) -> list[str]:
    """Make empty tables of readings on an alias hypertables.

    Those with rows are for a migration, which can be planned; those that cannot be one (foreign
    keys point to them) are named in the log.

    Returns:
        The names of those that were made.
    """
    made = []
    for model in written_models().values():
        if not is_reading(model) or router.db_for_write(model) != alias:
            continue
        table, column = model._meta.db_table, model._meta.get_field("timestamp").column
        try:
            if _make(alias, capabilities, table, column, chunk, False, True):
                made.append(table)
        except BackendError as error:
            logger.warning("%s stays a plain table: %s", table, error)
    return made


def _make(
    alias: str,
    capabilities: Capabilities,
    table: str,
    column: str,
    chunk: Interval,
    with_rows: bool,
    default_indexes: bool,
) -> bool:
    connection = connections[alias]
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        cursor.execute("SELECT to_regclass(quote_ident(%s))", (table,))
        if cursor.fetchone()[0] is None:
            return False  # not migrated yet
        relation = find(cursor, table, column)
        if time_column(cursor, relation) is not None:
            return False
        if not with_rows:
            has_rows = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(relation.identifier)
            cursor.execute(has_rows)
            if cursor.fetchone()[0]:
                logger.warning(
                    "%s has rows and is no hypertable; it stays as it is until you run %s",
                    table,
                    "manage.py tailrace_partition"
                    if table == EVENTS
                    else f"a migration with CreateHypertable({table!r})",
                )
                return False
        return to_hypertable(
            connection, capabilities, table, column, chunk, default_indexes=default_indexes
        )


def is_events_hypertable(alias: str) -> bool:
    """Return whether the events are in a hypertable."""
    with connections[alias].cursor() as cursor:
        try:
            return time_column(cursor, find(cursor, EVENTS, EVENTS_TIME)) is not None
        except NotSupportedByBackend:
            return False  # not migrated yet


def chunk_spans(alias: str) -> list[tuple[datetime, datetime]]:
    """Return from when to when each chunk of events goes, the oldest first."""
    with connections[alias].cursor() as cursor:
        relation = find(cursor, EVENTS, EVENTS_TIME)
        parameters = {**relation.parameters, "before": "infinity"}
        cursor.execute(statement("timescale_chunks"), parameters)
        return [(start, end) for *_, start, end in cursor.fetchall()]


def drop_chunks(
    alias: str,
    capabilities: Capabilities,
    before: datetime,
    deadline_seconds: float,
    may_go: MayGo | None = None,
) -> list[Dropped]:
    """Drop the chunks of events that end at or before a moment.

    Args:
        alias: The events' database.
        capabilities: What that has.
        before: Aware.
        deadline_seconds: How long to try, where others hold on to a chunk.
        may_go: Asked for each chunk, by its bounds, before it is locked, and again when no one
            can write to it any more; those that may not go stay.

    Returns:
        What was dropped.

    Raises:
        django.db.OperationalError: no lock was to be had until the deadline.
    """
    partitions = Partitions(connections[alias])

    def drop() -> list[Dropped]:
        with partitions.locked(LOCK_MS) as cursor:
            relation = find(cursor, EVENTS, EVENTS_TIME)
            parameters = {**relation.parameters, "relation": relation.oid, "before": before}
            cursor.execute(statement("timescale_chunks"), parameters)
            chunks: list[Dropped] = []
            going: list[tuple[datetime, datetime]] = []
            for name, rows, size_bytes, start, end in cursor.fetchall():
                if may_go is not None:
                    if not may_go(start, end):
                        continue
                    # The catalog has quoted the name.
                    cursor.execute(_LOCK_CHUNK.format(sql.SQL(name)))
                    if not may_go(start, end):
                        continue
                chunks.append(Dropped(name, rows, size_bytes))
                going.append((start, end))
            drop = capabilities.function("drop_chunks")
            query = statement("timescale_drop_chunks").format(drop_chunks=drop)
            for start, end in joined(going):
                cursor.execute(query, {**parameters, "start": start, "before": end})
        return chunks

    return partitions.patiently(drop, max(deadline_seconds, PATIENCE_SECONDS))


def joined(spans: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Return the same time in fewer spans: one ends where the next begins.

    Args:
        spans: Half-open, ascending, none of them overlapping.
    """
    found: list[tuple[datetime, datetime]] = []
    for start, end in spans:
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return found
