"""Events in PostgreSQL, by binary COPY."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import NoneType
from typing import Any, ClassVar

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from tailrace.pipeline.backfill.contracts import Waiting
from tailrace.pipeline.errors import BackendError, ConfigurationError
from tailrace.pipeline.stream import START

from .backfill.selection import SLICE_ROWS
from .base import BaseBackend, Transaction
from .django_db import DjangoDBBackend
from .partition_convert import convert
from .partition_plan import UNITS
from .partitions import Dropped, MayGo, Partitions
from .postgres_backfill import PostgresPair
from .postgres_copy import copy_events, insert_events
from .postgres_transaction import CheckpointRow, Insert, PostgresTransaction, lock_checkpoint

logger = logging.getLogger("tailrace")

_WRITES = ("auto", "copy", "unnest")
_PARTITION_CHECK_SECONDS = 3600.0
_PARTITION_RETRY_SECONDS = 60.0


class PostgresBackend(DjangoDBBackend):
    """Stores events on a PostgreSQL alias, several times faster than ``DjangoDBBackend``.

    ``OPTIONS``, all of them optional:

    - ``ALIAS``: the alias in ``DATABASES``; ``"default"`` without.
    - ``PARTITION``: ``"day"``, ``"week"`` or ``"month"``: one partition of the events' table
      for each, in UTC. ``None``, the default, leaves the table as it is.
    - ``PARTITIONS_AHEAD``: how many are kept ready for the time to come; 4 without.
    - ``WRITE``: ``"copy"``, ``"unnest"`` (for servers that have no COPY FROM STDIN), or
      ``"auto"``, the default, which asks the server.
    """

    batch_factor: ClassVar[int] = 2
    options: ClassVar = {
        **DjangoDBBackend.options,
        "PARTITION": (str, NoneType),
        "PARTITIONS_AHEAD": int,
        "WRITE": str,
    }
    transaction_class: ClassVar[type[PostgresTransaction]] = PostgresTransaction

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        self._unit = self._choice("PARTITION", None, (None, *UNITS))
        self._write = self._choice("WRITE", "auto", _WRITES)
        self._ahead = int(options.get("PARTITIONS_AHEAD", 4))
        if not 1 <= self._ahead <= 100:
            raise ConfigurationError(
                f"TAILRACE['BACKENDS'][{alias!r}]['OPTIONS']['PARTITIONS_AHEAD'] is {self._ahead}; "
                "write a number from 1 to 100."
            )
        self._insert: Insert | None = None
        self._step_rows: int | None = None
        self._partitions_due = 0.0

    def setup(self) -> None:
        """Check the alias; connect to nothing.

        Raises:
            ImproperlyConfigured: there is no such alias, or it is no PostgreSQL by psycopg 3.
        """
        super().setup()
        using = self.get_db_alias()
        wrapper = connections[using]
        if wrapper.vendor != "postgresql" or wrapper.Database is not psycopg:
            raise ImproperlyConfigured(
                f"TAILRACE['BACKENDS'][{self.alias!r}] is a {type(self).__name__}, and the "
                f"database {using!r} is {wrapper.display_name} by {wrapper.Database.__name__}: use "
                "PostgreSQL by psycopg 3, or tailrace.backends.django_db.DjangoDBBackend."
            )

    @contextmanager
    def _transaction(self, shard: int) -> Iterator[Transaction]:
        using = self.get_db_alias()
        with self._connected():
            insert = self._prepare()
            with transaction.atomic(using=using, durable=True):
                row = lock_checkpoint(using, self.alias, shard)
                tx = self.transaction_class(self.alias, using, row, insert)
                yield tx
                tx.finish()

    def backfill_writer(self) -> PostgresTransaction:
        row = CheckpointRow(-1, START, "", 0)
        return self.transaction_class(self.alias, self.get_db_alias(), row, self._prepare())

    def backfill_step_rows(self) -> int:
        """Return how many rows a step of a backfill should write here, in one transaction."""
        if self._step_rows is None:
            with self._connected():
                # Such a server has one session, and does 1,500 rows a second: live traffic waits
                # for as long as a step takes.
                self._step_rows = SLICE_ROWS // 5 if self._lacks_copy() else SLICE_ROWS
        return self._step_rows

    def backfill_pair(
        self, source: BaseBackend, measurement: str, wait: Waiting | None
    ) -> PostgresPair | None:
        """Return the fast way for a copy from another backend, if both ends can COPY.

        Args:
            source: The backend that is read.
            measurement: Whose events.
            wait: Waits for this backend's own drain.
        """
        if not isinstance(source, PostgresBackend):
            return None
        for backend in (source, self):
            with backend._connected():
                if backend._prepare() is not copy_events:
                    return None
        aliases = (source.get_db_alias(), self.get_db_alias())
        pair = PostgresPair(*aliases, measurement, self._prepare, wait)
        return pair if pair.fits() else None

    # --- partitions

    def ensure_partitions(self, now: datetime | None = None) -> list[str]:
        """Make the partitions that are needed now and for some time to come.

        Beat calls this, and so does each worker once an hour; it is cheap where there is
        nothing to do. A table that is not partitioned yet becomes so if it is empty; one with
        rows stays as it is until ``manage.py tailrace_partition`` is run.

        Args:
            now: The present, aware; the clock's without.

        Returns:
            Names of the partitions that were made.

        Raises:
            TransientBackendError: a lock was not to be had; try again later.
        """
        if self._unit is None:
            return []
        now = now or datetime.now(UTC)
        with self._connected():
            partitions = self._partitions()
            if convert(partitions, now, self._unit, self._ahead, with_rows=False):
                return [partition.name for partition in partitions.all()]
            if not partitions.is_partitioned():
                return []
            return partitions.ensure(now, self._unit, self._ahead)

    def maintain(self) -> str:
        made = ", ".join(self.ensure_partitions()) or "none"
        return f"{super().maintain()}; partitions made: {made}"

    def partition_existing(self, now: datetime | None = None) -> bool:
        """Partition a table that has rows: they become the oldest partition, where they are.

        Writers and readers wait while PostgreSQL reads the table once, a second or so for
        each few million rows.

        Returns:
            Whether there was anything to do.
        """
        if self._unit is None:
            raise ConfigurationError(
                f"TAILRACE['BACKENDS'][{self.alias!r}]['OPTIONS'] has no PARTITION: write "
                f"{' or '.join(repr(unit) for unit in UNITS)} there first."
            )
        now = now or datetime.now(UTC)
        with self._connected():
            return convert(self._partitions(), now, self._unit, self._ahead, with_rows=True)

    def drop_partitions(
        self,
        before: datetime,
        *,
        keep: bool = False,
        deadline_seconds: float = 30.0,
        may_go: MayGo | None = None,
    ) -> list[Dropped]:
        """Drop the partitions whose events are all older than ``before``.

        The partitioned table is locked for a few milliseconds each; where the lock is not to
        be had in 50 ms, the attempt is given up and made again. Rows in the default
        partition are deleted.

        Args:
            before: Aware; a partition goes if it ends at or before it.
            keep: Detach only, and keep the table under its name.
            deadline_seconds: After which time to stop trying.
            may_go: Asked for each partition, by its bounds, before it is locked, and again when
                no one can write to it any more; those that may not go stay.

        Returns:
            What was dropped.

        Raises:
            TransientBackendError: somebody held on to a table until the deadline; what was
                dropped until then stays dropped.
        """
        with self._connected():
            return self._partitions().drop(
                before, keep=keep, deadline_seconds=deadline_seconds, may_go=may_go
            )

    def event_spans(self) -> list[tuple[datetime, datetime]]:
        """Return from when to when each partition of events goes, the oldest first."""
        with self._connected():
            partitions = self._partitions()
            found = partitions.all() if partitions.is_partitioned() else []
            return [(p.lower, p.upper) for p in found if p.lower is not None and p.upper]

    # --- inside

    def _prepare(self) -> Insert:
        """Do what is due before a batch, on our own connection, outside of a transaction."""
        if self._insert is None:
            self._insert = insert_events if self._lacks_copy() else copy_events
        if self._unit is not None and time.monotonic() >= self._partitions_due:
            self._partitions_due = time.monotonic() + _PARTITION_CHECK_SECONDS
            try:
                self.ensure_partitions()
            except BackendError as error:
                # Rows go into the default partition meanwhile, or stay in the plain table.
                self._partitions_due = time.monotonic() + _PARTITION_RETRY_SECONDS
                logger.warning("partitions of backend %r put off: %s", self.alias, error)
        return self._insert

    def _lacks_copy(self) -> bool:
        """Return whether the server is one that COPY FROM STDIN would bring down."""
        if self._write != "auto":
            return self._write == "unnest"
        with connections[self.get_db_alias()].cursor() as cursor:
            cursor.execute("SELECT version()")
            # PostgreSQL as WebAssembly (PGlite) ends with its first COPY FROM STDIN.
            return "emscripten" in cursor.fetchone()[0].lower()

    def _partitions(self) -> Partitions:
        return Partitions(connections[self.get_db_alias()])

    def _choice(self, name: str, default: str | None, known: tuple[str | None, ...]) -> str | None:
        value = self.given_options.get(name, default)
        if value not in known:
            raise ConfigurationError(
                f"TAILRACE['BACKENDS'][{self.alias!r}]['OPTIONS'][{name!r}] is {value!r}; "
                f"write one of: {', '.join(map(repr, known))}."
            )
        return value
