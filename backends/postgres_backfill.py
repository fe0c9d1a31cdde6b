"""A slice from one PostgreSQL to another, without Python looking at its rows.

``COPY TO`` at one end is streamed into a temporary table at the other, in the binary format of
both; what is missing goes from there into the table, in the transaction that marks the step as
done. Checksums are made by both servers from the same expression.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from django.db import connections, transaction
from psycopg import sql

from tailrace.pipeline.backfill.contracts import Slice, StepContext, StepResult
from tailrace.pipeline.backfill.digest import digest_text
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import ns_from_datetime
from tailrace.pipeline.faults import fault

from .backfill.markers import found_result, put_result
from .backfill.orm import Waiting, connected
from .backfill.selection import window_of
from .postgres_transaction import refusals
from .rollups.invalidation import invalidate
from .statements import statement


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
            cursor.execute(statement("backfill_stage"))
            rows, source, size = self._stage(cursor, bounds)
            fault("backfill_after_read")
            if self._wait is not None:
                self._wait(context.alive)
            written = _insert(cursor, bounds)
            fault("backfill_mid_write")
            self._invalidate(bounds)
            cursor.execute(statement("backfill_target_digest"), bounds)
            target = digest_text(*(cursor.fetchone() or (0, 0)))
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

    def _stage(self, target: psycopg.Cursor[Any], bounds: dict[str, Any]) -> tuple[int, str, int]:
        """Stream the slice to the target's connection; count and checksum it at its source."""
        out = statement("backfill_copy_out").format(
            **{name: sql.Literal(value) for name, value in bounds.items()}
        )
        size = 0
        with connected(self._source):
            wrapper = connections[self._source]
            # Checksum and rows must be of one moment.
            with (
                transaction.atomic(using=self._source),
                wrapper.wrap_database_errors,
                psycopg.Cursor(wrapper.connection) as source,
            ):
                source.execute(statement("backfill_snapshot"))
                source.execute(statement("backfill_source_digest"), bounds)
                rows, total = source.fetchone() or (0, 0)
                with (
                    source.copy(out) as reader,
                    target.copy(statement("backfill_copy_in")) as writer,
                ):
                    for block in reader:
                        writer.write(block)
                        size += len(block)
        return rows, digest_text(rows, total), size


def _insert(cursor: psycopg.Cursor[Any], bounds: dict[str, Any]) -> int:
    cursor.execute(statement("backfill_has_rows"), bounds)
    if not (cursor.fetchone() or (False,))[0]:
        cursor.execute(statement("backfill_insert_all"))
        return cursor.rowcount
    cursor.execute("ANALYZE pg_temp.tailrace_slice")
    cursor.execute(statement("backfill_insert_missing"), bounds)
    return cursor.rowcount
