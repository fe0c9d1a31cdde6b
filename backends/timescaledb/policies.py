"""What TimescaleDB does by itself with a hypertable of readings: drop, compress; and its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error, InterfaceError, OperationalError, connections, router, transaction
from psycopg import sql

from tailrace.backends.django_errors import translated_errors
from tailrace.backends.private_connection import private_connection
from tailrace.backends.reading.columns import ReadingSchema
from tailrace.backends.statements import statement
from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.interval import Interval, parse_interval

from .convert import Relation, find, time_column
from .probe import Capabilities, as_parameters, probe

IntervalLike = str | timedelta | Interval

_RETENTION = ("policy_retention",)
_COMPRESSION = ("policy_compression",)


class Hypertable:
    """A model's hypertable, on our own connection."""

    def __init__(self, schema: ReadingSchema, relation: Relation, found: Capabilities) -> None:
        """Take what was found."""
        self.schema = schema
        self.relation = relation
        self.capabilities = found

    def function(self, name: str) -> sql.Identifier:
        """Return one of the extension's functions, by its full name."""
        return self.capabilities.function(name)


class TimescalePolicies:
    """A part of :class:`tailrace.backends.timescale.TimescaleDBBackend`."""

    def create_retention_policy(
        self, reading_model: type, drop_after: IntervalLike = "90 days"
    ) -> int:
        """Have TimescaleDB drop chunks of a model's readings when all in them is old.

        A policy that is there already is replaced.

        Args:
            reading_model: Whose readings.
            drop_after: Their age.

        Returns:
            The number of TimescaleDB's job.

        Raises:
            ValueError: the model or the age is none.
            NotSupportedByBackend: its table is no hypertable, or there are no policies here.
        """
        age = parse_interval(drop_after)
        return self._replace_policy(reading_model, "retention", _RETENTION, age)

    def remove_retention_policy(self, reading_model: type) -> bool:
        """Keep a model's readings for ever; return whether there was a policy."""
        return self._remove_policy(reading_model, "retention", _RETENTION)

    def create_compression_policy(
        self,
        reading_model: type,
        compress_after: IntervalLike = "7 days",
        segment_by: Sequence[str] | None = None,
    ) -> int:
        """Have TimescaleDB compress chunks of a model's readings when all in them is old.

        A policy that is there already is replaced.

        Args:
            reading_model: Whose readings.
            compress_after: Their age.
            segment_by: Columns whose values stay uncompressed, to filter by; the device without.

        Returns:
            The number of TimescaleDB's job.

        Raises:
            ValueError: the model, a column or the age is none.
            NotSupportedByBackend: its table is no hypertable, or there are no policies here.
        """
        age = parse_interval(compress_after)
        schema = ReadingSchema(reading_model)
        if segment_by is None:
            columns = [] if schema.device is None else [schema.device]
        else:
            columns = [schema.grouped(name) for name in segment_by]
        with self._hypertable(reading_model, "compression") as (table, cursor):
            cursor.execute(_compress(table, [column.column for column in columns]))
        return self._replace_policy(reading_model, "compression", _COMPRESSION, age)

    def remove_compression_policy(self, reading_model: type) -> bool:
        """Compress no more chunks; return whether there was a policy. Compressed ones stay so."""
        return self._remove_policy(reading_model, "compression", _COMPRESSION)

    def hypertable_info(self, reading_model: type) -> dict[str, Any] | None:
        """Return what there is to know of a model's hypertable; ``None`` if it has none.

        Returns:
            ``hypertable_name``, ``num_chunks``, ``total_size`` (as text), ``total_bytes``,
            ``table_bytes``, ``index_bytes``, ``toast_bytes``, and ``compression``:
            ``{"enabled", "compressed_chunks", "before_bytes", "after_bytes"}``.
        """
        with self._look(reading_model) as (table, cursor):
            if table is None:
                return None
            parameters = table.relation.parameters
            name = table.function("hypertable_detailed_size")
            query = statement("timescale_info").format(hypertable_detailed_size=name)
            cursor.execute(query, parameters)
            hypertable, chunks, is_enabled, rows, index, toast, total, pretty = cursor.fetchone()
            compressed: tuple[Any, ...] = (0, None, None)
            if is_enabled and table.capabilities.has_policies:
                name = table.function("hypertable_compression_stats")
                query = statement("timescale_compression").format(hypertable_compression_stats=name)
                cursor.execute(query, parameters)
                compressed = cursor.fetchone()
        return {
            "hypertable_name": hypertable,
            "num_chunks": chunks,
            "total_size": pretty,
            "total_bytes": total,
            "table_bytes": rows,
            "index_bytes": index,
            "toast_bytes": toast,
            "compression": {
                "enabled": is_enabled,
                "compressed_chunks": compressed[0],
                "before_bytes": compressed[1],
                "after_bytes": compressed[2],
            },
        }

    # --- inside

    def _replace_policy(self, model: type, what: str, kinds: tuple[str, ...], age: Interval) -> int:
        with self._hypertable(model, f"a {what} policy") as (table, cursor):
            _remove(table, cursor, what, kinds)
            add = table.function(f"add_{what}_policy")
            query = statement("timescale_add_policy").format(add=add)
            cursor.execute(query, {**table.relation.parameters, **as_parameters(age)})
            return int(cursor.fetchone()[0])

    def _remove_policy(self, model: type, what: str, kinds: tuple[str, ...]) -> bool:
        with self._hypertable(model, f"a {what} policy") as (table, cursor):
            return _remove(table, cursor, what, kinds)

    @contextmanager
    def _hypertable(self, model: type, what: str) -> Iterator[tuple[Hypertable, Any]]:
        """Open a transaction on a model's hypertable, where policies can be had."""
        with self._look(model) as (table, cursor):
            if table is None:
                raise NotSupportedByBackend(
                    f"{what} needs a hypertable, and {model._meta.db_table!r} is none: put "  # type: ignore[attr-defined]
                    f"CreateHypertable({model._meta.db_table!r}) into a migration."  # type: ignore[attr-defined]
                )
            table.capabilities.require_policies(what)
            yield table, cursor

    @contextmanager
    def _look(self, model: type) -> Iterator[tuple[Hypertable | None, Any]]:
        schema = ReadingSchema(model)
        using = str(router.db_for_write(model))
        with translated_errors(using), private_connection(using) as connection:
            found = probe(connection)
            if not found.has_hypertables:
                found.require_hypertables(f"readings of {schema.label}")
            with (
                database_errors_told(),
                transaction.atomic(using=using),
                connections[using].cursor() as cursor,
            ):
                relation = find(cursor, schema.model._meta.db_table, schema.time.column)
                is_one = time_column(cursor, relation) is not None
                yield (Hypertable(schema, relation, found) if is_one else None), cursor


@contextmanager
def database_errors_told() -> Iterator[None]:
    """Turn what the server says of our arguments into ``ValueError``."""
    try:
        yield
    except (OperationalError, InterfaceError):
        raise
    except Error as error:
        raise ValueError(f"TimescaleDB says: {str(error).strip()}") from error


def _compress(table: Hypertable, columns: list[str]) -> sql.Composed:
    set_ = (
        "ALTER TABLE {} SET (timescaledb.compress, timescaledb.compress_segmentby = {}, "
        "timescaledb.compress_orderby = {})"
    )
    names = sql.SQL(", ").join(map(sql.Identifier, columns)).as_string(None)
    order = sql.SQL("{} DESC").format(sql.Identifier(table.schema.time.column)).as_string(None)
    return sql.SQL(set_).format(table.relation.identifier, sql.Literal(names), sql.Literal(order))


def _remove(table: Hypertable, cursor: Any, what: str, kinds: tuple[str, ...]) -> bool:
    parameters = {**table.relation.parameters, "kinds": list(kinds)}
    cursor.execute(statement("timescale_jobs"), parameters)
    if cursor.fetchone() is None:
        return False
    remove = sql.SQL("SELECT {}(%(oid)s::regclass)")
    cursor.execute(remove.format(table.function(f"remove_{what}_policy")), parameters)
    return True
