"""Time partitions of ``tailrace_event`` on PostgreSQL.

Whatever locks the partitioned table gives up after 50 ms and tries again: a statement that
waits for a lock makes everybody wait who comes after it, and the drain comes all the time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from .partition_plan import Partition, Span, missing
from .statements import statement

DEFAULT = "tailrace_event_default"
"""The partition of rows that no other one takes."""

LOCK_MS = 50
"""For locks that the drain would wait behind."""
PATIENCE_SECONDS = 3.0
_EXPIRED_LOCK_MS = 2_000
"""For locks on expired partitions: longer than deadlock_timeout (1 s), after which PostgreSQL
ends an autovacuum that is in the way."""
_PAUSE_SECONDS = 0.1
_random = random.Random()  # who seeds the global one counts on its numbers
_ADVISORY_KEY = int.from_bytes(b"tailrace", "big")
_EXPIRED = "tailrace: expired, to be dropped"
_STRAYS_A_SLICE = 5_000

_BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

T = TypeVar("T")
MayGo = Callable[[datetime | None, datetime | None], bool]
"""Whether all rows from one time on, and before another, may go."""


class Dropped(NamedTuple):
    """What retention has removed."""

    name: str
    rows: int
    """Estimated for a whole partition (-1: never counted), exact for the default partition."""
    size_bytes: int


class Partitions:
    """The partitions of the events' table, over a connection that is in autocommit."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        """Look at nothing yet.

        Args:
            wrapper: Django's connection, our own.
        """
        self._wrapper = wrapper

    def is_partitioned(self) -> bool:
        """Return whether the events' table is a partitioned one."""
        with self.cursor() as cursor:
            return kind(cursor) == "p"

    def all(self) -> list[Partition]:
        """Return the partitions, the oldest first, the default one last."""
        with self.cursor() as cursor:
            return existing(cursor)

    def ensure(self, now: datetime, unit: str, ahead: int) -> list[str]:
        """Make the partition of ``now`` and ``ahead`` more.

        Args:
            now: Aware.
            unit: ``day``, ``week`` or ``month``.
            ahead: How many.

        Returns:
            The names of those that were not there.

        Raises:
            django.db.OperationalError: no lock was to be had in time.
        """
        if not missing(self.all(), now, unit, ahead + 1):
            return []

        def make() -> list[str]:
            with self.locked(LOCK_MS) as cursor:
                spans = missing(existing(cursor), now, unit, ahead + 1)
                for span in spans:
                    create(cursor, span)
            return [span.name for span in spans]

        return self.patiently(make, PATIENCE_SECONDS)

    # --- retention

    def drop(
        self,
        before: datetime,
        *,
        keep: bool,
        deadline_seconds: float,
        may_go: MayGo | None = None,
    ) -> list[Dropped]:
        """Drop partitions that end at or before ``before``, and older rows of the default one.

        Args:
            before: Aware.
            keep: Detach only.
            deadline_seconds: How long to try.
            may_go: Asked for each partition, by its bounds, before it is locked, and again when
                no one can write to it any more; those that may not go stay, and so do rows of
                the default one.

        Returns:
            What was dropped, including what an earlier call had detached only.

        Raises:
            django.db.OperationalError: locks were not to be had until the deadline.
        """
        deadline = time.monotonic() + deadline_seconds
        partitions = self.all()
        defaults = [partition.name for partition in partitions if partition.is_default]
        dropped = []
        for partition in partitions:
            if partition.upper is None or partition.upper > before:
                continue
            if may_go is not None and not may_go(partition.lower, partition.upper):
                continue
            left = deadline - time.monotonic()
            is_gone = self.patiently(
                lambda p=partition: self._detach(p, defaults, keep, may_go),  # type: ignore[misc]
                left,
            )
            if is_gone and keep:
                dropped.append(Dropped(partition.name, partition.rows, partition.size_bytes))
        dropped += self._drop_expired(deadline)
        if may_go is None:
            dropped += [self._delete_strays(name, before, deadline) for name in defaults]
        return [item for item in dropped if item.rows or item.size_bytes]

    def _detach(
        self,
        partition: Partition,
        defaults: list[str],
        keep: bool,
        may_go: MayGo | None = None,
    ) -> bool:
        names = {"partition": sql.Identifier(partition.name), "mark": sql.Literal(_EXPIRED)}
        mark = sql.SQL("COMMENT ON TABLE {partition} IS {mark}").format(**names)
        if not defaults and may_go is None:
            # Allowed only without a default partition; takes no lock that anybody feels.
            how = "FINALIZE" if partition.is_detach_pending else "CONCURRENTLY"
            self._detach_concurrently(partition.name, how, None if keep else mark)
            return True
        with self.locked(_EXPIRED_LOCK_MS) as cursor:
            # First what nobody else needs, so that the parent is never held while we wait.
            for name in (partition.name, *defaults):
                cursor.execute(
                    sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(
                        sql.Identifier(name)
                    )
                )
                _set_lock_timeout(cursor, LOCK_MS)
            if may_go is not None and not may_go(partition.lower, partition.upper):
                return False
            cursor.execute(statement("detach_partition").format(**names))
            if not keep:
                cursor.execute(mark)
        return True

    def _detach_concurrently(self, name: str, how: str, mark: sql.Composed | None) -> None:
        with self.cursor() as cursor:
            if mark is not None:
                cursor.execute(mark)
            try:
                cursor.execute(f"SET lock_timeout = {_EXPIRED_LOCK_MS}")
                detach = sql.SQL("ALTER TABLE tailrace_event DETACH PARTITION {} {}")
                cursor.execute(detach.format(sql.Identifier(name), sql.SQL(how)))
            finally:
                cursor.execute("RESET lock_timeout")

    def _drop_expired(self, deadline: float) -> list[Dropped]:
        with self.cursor() as cursor:
            cursor.execute(statement("list_expired"), (_EXPIRED,))
            expired = [Dropped(*row) for row in cursor]
        for table in expired:
            self.patiently(lambda t=table: self._drop_table(t.name), deadline - time.monotonic())  # type: ignore[misc]
        return expired

    def _drop_table(self, name: str) -> None:
        with self.locked(_EXPIRED_LOCK_MS) as cursor:
            cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))

    def _delete_strays(self, name: str, before: datetime, deadline: float) -> Dropped:
        query = statement("delete_strays").format(partition=sql.Identifier(name))
        total = 0
        with self.cursor() as cursor:
            while time.monotonic() < deadline:
                cursor.execute(query, (before, _STRAYS_A_SLICE))
                total += cursor.rowcount
                if cursor.rowcount < _STRAYS_A_SLICE:
                    break
        return Dropped(name, total, 0)

    # --- the connection

    @contextmanager
    def cursor(self) -> Iterator[psycopg.Cursor[Any]]:
        """Open a cursor whose errors are Django's."""
        self._wrapper.ensure_connection()
        with self._wrapper.wrap_database_errors, psycopg.Cursor(self._wrapper.connection) as cursor:
            yield cursor

    @contextmanager
    def locked(self, lock_ms: int) -> Iterator[psycopg.Cursor[Any]]:
        """Open a transaction that changes partitions; only one does at a time.

        Args:
            lock_ms: How long any statement in it may wait for a lock.
        """
        with self.cursor() as cursor, cursor.connection.transaction():
            _set_lock_timeout(cursor, lock_ms)
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_KEY,))
            yield cursor

    def patiently(self, action: Callable[[], T], seconds: float) -> T:
        """Try again, for so many seconds, what others' locks prevent; at least once."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return action()
            except Exception as error:
                if not isinstance(error.__cause__, _BUSY) or time.monotonic() > deadline:
                    raise
            time.sleep(_random.uniform(0, _PAUSE_SECONDS))


def kind(cursor: psycopg.Cursor[Any]) -> str | None:
    """Return ``p`` for a partitioned table, ``r`` for a plain one, ``None`` for none."""
    cursor.execute(statement("table_kind"))
    row = cursor.fetchone()
    return row[0] if row else None


def existing(cursor: psycopg.Cursor[Any]) -> list[Partition]:
    """Return the partitions there are."""
    cursor.execute(statement("list_partitions"))
    return [Partition(*row) for row in cursor]


def create(cursor: psycopg.Cursor[Any], span: Span) -> None:
    """Make a partition; rows of its time that went astray move in.

    Reads and writes of other partitions go on meanwhile.
    """
    names = {
        "partition": sql.Identifier(span.name),
        "lower": sql.Literal(span.lower),
        "upper": sql.Literal(span.upper),
    }
    cursor.execute(statement("create_partition").format(**names))
    defaults = [partition.name for partition in existing(cursor) if partition.is_default]
    for name in map(sql.Identifier, defaults):
        # ATTACH locks it like this anyway; before the rows move, none can slip in.
        cursor.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(name))
        move = statement("move_rows")
        cursor.execute(move.format(source=name, target=names["partition"], **_bounds(names)))
    cursor.execute(statement("attach_partition").format(**names))


def _bounds(names: dict[str, Any]) -> dict[str, Any]:
    return {"lower": names["lower"], "upper": names["upper"]}


def _set_lock_timeout(cursor: psycopg.Cursor[Any], milliseconds: int) -> None:
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", (str(milliseconds),))
