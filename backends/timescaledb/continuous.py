"""Making, refreshing and dropping continuous aggregates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connections, router
from psycopg import sql

from tailrace.backends.django_errors import translated_errors
from tailrace.backends.private_connection import private_connection
from tailrace.backends.reading.columns import ReadingSchema
from tailrace.backends.reading.query import AggregateQuery
from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.interval import Interval, aware, parse_interval

from .aggregates import (
    Definition,
    Found,
    add_policy,
    checked_name,
    create_statement,
    find_aggregates,
)
from .convert import find, time_column
from .policies import Hypertable, IntervalLike, database_errors_told
from .probe import probe


class TimescaleContinuous:
    """A part of :class:`tailrace.backends.timescale.TimescaleDBBackend`.

    None of this can run in a transaction, TimescaleDB says; it runs on a connection of our own.
    """

    def continuous_aggregate(
        self,
        name: str,
        reading_model: type,
        field: str | None,
        function: str = "avg",
        interval: IntervalLike = "1 hour",
        start_offset: IntervalLike | None = "1 month",
        end_offset: IntervalLike | None = "1 hour",
        schedule_interval: IntervalLike = "1 hour",
        with_data: bool = True,
    ) -> bool:
        """Make a continuous aggregate of a model's readings, by device, and have it refreshed.

        Reads of it are in real time: what is not materialised yet is computed. ``aggregate`` and
        ``downsample`` use it by themselves for what it can answer exactly.

        Args:
            name: Of the view to make. Its columns: ``bucket``, ``device_id``, ``result``.
            reading_model: Whose readings.
            field: Of which field; ``None`` with ``count`` counts readings.
            function: As for ``aggregate``.
            interval: Width of the buckets, which are in UTC.
            start_offset: How far back each refresh looks; ``None``: to the beginning.
            end_offset: How far from now it stops; ``None``: not at all.
            schedule_interval: How often it is refreshed.
            with_data: Whether to materialise all there is at once.

        Returns:
            Whether it was made; ``False`` if it is there already, with the same definition. Its
            schedule is then replaced.

        Raises:
            ValueError: an argument cannot be meant, or the name is taken.
            NotSupportedByBackend: the table is no hypertable, or the licence forbids it.
        """
        offsets = {
            "start": None if start_offset is None else parse_interval(start_offset),
            "end": None if end_offset is None else parse_interval(end_offset),
            "schedule": parse_interval(schedule_interval),
        }
        view_name = checked_name(name)
        asked = AggregateQuery.make(reading_model, field, function, interval=interval)
        assert asked.interval is not None
        width = asked.interval
        definition = Definition(asked.field, asked.function, width.seconds, width.months)
        with self._open(reading_model, "a continuous aggregate") as (table, cursor):
            view = sql.Identifier(table.relation.schema, view_name)
            known = _known(table, cursor, view_name, definition)
            if known is None:
                _create(table, cursor, view, definition, with_data)
            _schedule(table, cursor, view, known is None, offsets)
        return known is None

    def refresh_continuous_aggregate(
        self,
        name: str,
        reading_model: type,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        """Materialise what changed in the buckets that lie within ``[start, end)``.

        Args:
            name: Of the continuous aggregate.
            reading_model: Whose readings it is of.
            start: First instant; from the beginning without.
            end: First instant that does not belong any more; all without.

        Raises:
            ValueError: there is none of that name, or the window holds no bucket.
            NotSupportedByBackend: see :meth:`continuous_aggregate`.
        """
        first = None if start is None else aware(start, "start")
        last = None if end is None else aware(end, "end")
        with self._open(reading_model, "a continuous aggregate") as (table, cursor):
            found = _one(table, cursor, name)
            _refresh(table, cursor, found.identifier, first, last)

    def drop_continuous_aggregate(self, name: str, reading_model: type) -> None:
        """Drop a continuous aggregate; readings stay.

        Raises:
            ValueError: there is none of that name.
        """
        with self._open(reading_model, "a continuous aggregate") as (table, cursor):
            _drop(cursor, _one(table, cursor, name).identifier)

    @contextmanager
    def _open(self, model: type, what: str) -> Iterator[tuple[Hypertable, Any]]:
        """Open a cursor in autocommit on a model's hypertable."""
        schema = ReadingSchema(model)
        using = str(router.db_for_write(model))
        with translated_errors(using), private_connection(using) as connection:
            found = probe(connection)
            found.require_policies(what)
            with database_errors_told(), connections[using].cursor() as cursor:
                relation = find(cursor, schema.model._meta.db_table, schema.time.column)
                if time_column(cursor, relation) is None:
                    raise NotSupportedByBackend(
                        f"{what} needs a hypertable, and {relation.name!r} is none: put "
                        f"CreateHypertable({relation.name!r}) into a migration."
                    )
                yield Hypertable(schema, relation, found), cursor


def _known(table: Hypertable, cursor: Any, name: str, definition: Definition) -> Found | None:
    """Return what has the name already, if it is what we would make; raise if it is not."""
    found = next(iter(find_aggregates(cursor, table.relation, name)), None)
    if found is not None and found.definition == definition:
        return found
    cursor.execute(
        "SELECT to_regclass(quote_ident(%s) || '.' || quote_ident(%s))",
        (table.relation.schema, name),
    )
    if cursor.fetchone()[0] is not None:
        raise ValueError(
            f"there is something else called {name!r} already; choose another name, or drop it "
            "first (drop_continuous_aggregate)"
        )
    return None


def _one(table: Hypertable, cursor: Any, name: str) -> Found:
    found = next(iter(find_aggregates(cursor, table.relation, checked_name(name))), None)
    if found is None:
        raise ValueError(f"{table.schema.label} has no continuous aggregate {name!r:.80}")
    return found


def _create(
    table: Hypertable, cursor: Any, view: sql.Identifier, definition: Definition, with_data: bool
) -> None:
    time_bucket = table.function("time_bucket")
    cursor.execute(create_statement(table.schema, table.relation, view, definition, time_bucket))
    try:
        comment = sql.SQL("COMMENT ON VIEW {} IS {}")
        cursor.execute(comment.format(view, sql.Literal(definition.note)))
        if with_data:
            _refresh(table, cursor, view, None, None)
    except Exception:
        _drop(cursor, view)  # all or nothing, where no transaction can see to it
        raise


def _refresh(
    table: Hypertable,
    cursor: Any,
    view: sql.Identifier,
    start: datetime | None,
    end: datetime | None,
) -> None:
    refresh = sql.SQL("CALL {}(%s::regclass, %s::timestamptz, %s::timestamptz)").format(
        table.function("refresh_continuous_aggregate")
    )
    cursor.execute(refresh, (view.as_string(None), start, end))


def _drop(cursor: Any, view: sql.Identifier) -> None:
    cursor.execute(sql.SQL("DROP MATERIALIZED VIEW IF EXISTS {}").format(view))


def _schedule(
    table: Hypertable,
    cursor: Any,
    view: sql.Identifier,
    is_new: bool,
    offsets: dict[str, Interval | None],
) -> None:
    """Have a view refreshed, by another schedule if it is there; drop a new one if that fails."""
    text = view.as_string(None)
    if not is_new:
        remove = table.function("remove_continuous_aggregate_policy")
        cursor.execute(
            sql.SQL("SELECT {}(%s::regclass, if_exists => true)").format(remove), (text,)
        )
    try:
        add_policy(cursor, table.function("add_continuous_aggregate_policy"), text, **offsets)
    except Exception:
        if is_new:
            _drop(cursor, view)
        raise
