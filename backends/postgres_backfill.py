"""A slice from one PostgreSQL to another, without Python looking at its rows.

``COPY TO`` at one end is streamed into ``COPY FROM`` at the other, in the binary format of both.
Where live traffic is written to the target, too, the rows stop in a temporary table, and what is
missing goes from there into the events', once the target's drain has come past them. All of it
is one transaction, which marks the step as done. Checksums are made by both servers, from the
same expression.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from django.db import connections, transaction
from psycopg import sql

from tailrace.pipeline.backfill.contracts import Slice, StepContext, StepResult, Waiting
from tailrace.pipeline.backfill.digest import digest_text
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import ns_from_datetime
from tailrace.pipeline.faults import fault

from .backfill.markers import found_result, put_result
from .backfill.orm import connected
from .backfill.selection import window_of
from .postgres_transaction import refusals
from .rollups.invalidation import invalidate
from .statements import statement

_HAS_RECORD_HASH = 14
"""The first major version with ``hash_record_extended``."""


class PostgresPair:
    """Copies events of one measurement between two PostgreSQL aliases."""

    def __init__(
        self,
        source: str,
        target: str,
        measurement: str,
        prepare: Callable[[], object],
        wait: Waiting | None,
    ) -> None:
        """Keep all; ask nothing yet.

        Args:
            source: The database alias that is read.
            target: The database alias that is written.
            measurement: Whose events.
            prepare: Makes partitions or chunks ready, on the target's own connection.
            wait: As of :class:`~tailrace.backends.backfill.orm.OrmSink`.
        """
        self._source = source
        self._target = target
        self._measurement = measurement
        self._prepare = prepare
        self._wait = wait

    def fits(self) -> bool:
        """Return whether both ends can do it: the fence needs the target to see what others
        commit meanwhile, which stricter isolation levels hide."""
        with connected(self._target):
            wrapper = connections[self._target]
            wrapper.ensure_connection()
            return bool(wrapper.isolation_level == psycopg.IsolationLevel.READ_COMMITTED)

    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        """Copy a slice; see :meth:`~tailrace.pipeline.backfill.contracts.Sink.write`."""
        window = window_of(slice_)
        assert window is not None, "slices of a database are windows"
        bounds = {"measurement": self._measurement, "start": window.start, "end": window.end}
        with connected(self._target):
            if (done := found_result(self._target, context.marker)) is not None:
                return done
            self._prepare()
            with refusals(), transaction.atomic(using=self._target, durable=True):
                result = self._copy(context, bounds)
                put_result(self._target, context.marker, result)
                fault("backfill_before_commit")
        fault("backfill_after_commit")
        return result

    def _copy(self, context: StepContext, bounds: dict[str, Any]) -> StepResult:
        wrapper = connections[self._target]
        with wrapper.wrap_database_errors, psycopg.Cursor(wrapper.connection) as cursor:
            # Nobody else writes these rows, and none are there: they need no stop on the way.
            is_straight = self._wait is None and not _has_rows(cursor, bounds)
            if not is_straight:
                cursor.execute(statement("backfill_stage"))
                # Nobody has counted what this transaction writes: the planner takes 10,000 rows
                # for one, and compares each row of the slice with each row of the window.
                cursor.execute("SET LOCAL enable_nestloop TO off")
            way = statement("copy_events" if is_straight else "backfill_copy_in")
            rows, source, size, row_hash = self._stream(cursor, way, bounds)
            fault("backfill_after_read")
            if self._wait is not None:
                self._wait(context.alive)
            written = rows if is_straight else _insert(cursor, bounds)
            fault("backfill_mid_write")
            self._invalidate(bounds)
            digest = "backfill_window_digest" if is_straight else "backfill_slice_digest"
            target = _digest(cursor, digest, row_hash, bounds)[1]
        if source != target:
            raise BackendError(
                f"what was written is not what was read ({source} became {target}); nothing of "
                "this slice is stored"
            )
        return StepResult(
            rows_read=rows,
            rows_written=written,
            rows_present=rows - written,
            bytes=size,
            source_digest=source,
            target_digest=target,
        )

    def _invalidate(self, bounds: dict[str, Any]) -> None:
        low, high = (ns_from_datetime(bounds[name]) // 1000 for name in ("start", "end"))
        invalidate(self._target, self._measurement, low, high)

    def _stream(
        self, target: psycopg.Cursor[Any], way: sql.SQL, bounds: dict[str, Any]
    ) -> tuple[int, str, int, str]:
        """Stream the slice to the target; count and checksum it at its source.

        Returns:
            Rows, their digest, bytes, and which hash of a row both ends take.
        """
        out = statement("backfill_copy_out").format(
            **{name: sql.Literal(value) for name, value in bounds.items()}
        )
        size = 0
        with connected(self._source):
            wrapper = connections[self._source]
            with (
                transaction.atomic(using=self._source),
                wrapper.wrap_database_errors,
                psycopg.Cursor(wrapper.connection) as source,
            ):
                # Checksum and rows must be of one moment.
                source.execute(statement("backfill_snapshot"))
                row_hash = _common_hash(source, target)
                rows, digest = _digest(source, "backfill_window_digest", row_hash, bounds)
                with source.copy(out) as reader, target.copy(way) as writer:
                    for block in reader:
                        writer.write(block)
                        size += len(block)
        return rows, digest, size, row_hash


def _common_hash(source: psycopg.Cursor[Any], target: psycopg.Cursor[Any]) -> str:
    """Return the fastest hash of a row that two servers agree on."""
    majors = {cursor.connection.info.server_version // 10_000 for cursor in (source, target)}
    is_common = len(majors) == 1 and min(majors) >= _HAS_RECORD_HASH
    return "backfill_hash_record" if is_common else "backfill_hash_md5"


def _digest(
    cursor: psycopg.Cursor[Any], name: str, row_hash: str, bounds: dict[str, Any]
) -> tuple[int, str]:
    cursor.execute(statement(name).format(hash=statement(row_hash)), bounds)
    rows, total = cursor.fetchone() or (0, 0)
    return rows, digest_text(rows, total)


def _has_rows(cursor: psycopg.Cursor[Any], bounds: dict[str, Any]) -> bool:
    cursor.execute(statement("backfill_has_rows"), bounds)
    return bool((cursor.fetchone() or (False,))[0])


def _insert(cursor: psycopg.Cursor[Any], bounds: dict[str, Any]) -> int:
    if not _has_rows(cursor, bounds):
        cursor.execute(statement("backfill_insert_all"))
        return cursor.rowcount
    cursor.execute("ANALYZE pg_temp.tailrace_slice")
    cursor.execute(statement("backfill_insert_missing"), bounds)
    return cursor.rowcount
