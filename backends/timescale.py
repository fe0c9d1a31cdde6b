"""Events and readings in TimescaleDB."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from django.core import checks
from django.db import DatabaseError, connections

from tailrace.pipeline.errors import BackendError, ConfigurationError, NotSupportedByBackend
from tailrace.pipeline.interval import Interval, parse_interval

from .partitions import Dropped, MayGo
from .postgres import PostgresBackend
from .postgres_transaction import Insert
from .reading.columns import ReadingSchema
from .retention.orm import OrmRetention
from .rollups.changes import source_key
from .timescaledb.chunks import (
    chunk_spans,
    drop_chunks,
    is_events_hypertable,
    make_events_hypertable,
    make_reading_hypertables,
)
from .timescaledb.continuous import TimescaleContinuous
from .timescaledb.operations import CreateHypertable
from .timescaledb.policies import TimescalePolicies
from .timescaledb.probe import Capabilities, check_messages, probe
from .timescaledb.reading import TimescaleReader

__all__ = ["CreateHypertable", "TimescaleDBBackend"]

logger = logging.getLogger("tailrace")

_CHECK_SECONDS = 3600.0
_RETRY_SECONDS = 60.0


class TimescaleDBBackend(TimescaleReader, TimescalePolicies, TimescaleContinuous, PostgresBackend):
    """Stores events, and models of readings, in hypertables.

    ``OPTIONS`` are those of :class:`PostgresBackend`, and

    - ``CHUNK_TIME_INTERVAL``: how much time a chunk of events holds; ``"1 day"`` without.

    Empty tables become hypertables by themselves: the events' and those of readings. Tables with
    rows do so when you say: ``manage.py tailrace_partition`` for events, a migration with
    :class:`CreateHypertable` for readings.

    Where the extension is missing, this works as ``PostgresBackend`` does (with ``PARTITION``,
    if you set it), and a system check says so. Under the Apache licence, hypertables work, and
    policies and continuous aggregates raise :class:`NotSupportedByBackend`.
    """

    options: ClassVar = {**PostgresBackend.options, "CHUNK_TIME_INTERVAL": str}

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        try:
            self._chunk: Interval = parse_interval(options.get("CHUNK_TIME_INTERVAL", "1 day"))
        except ValueError as error:
            raise ConfigurationError(
                f"TAILRACE['BACKENDS'][{alias!r}]['OPTIONS']['CHUNK_TIME_INTERVAL']: {error}"
            ) from error
        self._found: Capabilities | None = None
        self._hypertables_due = 0.0

    def capabilities(self) -> Capabilities:
        """Return what the events' database has; asked again while something is missing."""
        if self._found is None or self._found.problem is not None:
            with self._connected():
                self._found = probe(connections[self.get_db_alias()])
        return self._found

    def check(self, id: str) -> list[checks.CheckMessage]:
        """Return what a system check has to say: what the database lacks, and what follows.

        Args:
            id: The message's, such as ``tailrace.W006``.

        Raises:
            TransientBackendError: the database cannot be asked.
        """
        return check_messages(self.alias, self.capabilities(), id)

    def maintain(self) -> str:
        """Do what :class:`PostgresBackend` does, and make hypertables that are due."""
        done = super().maintain()
        made = self.ensure_hypertables()
        return f"{done}; made hypertables: {', '.join(made) or 'none'}"

    # --- retention

    def create_retention_policy(
        self, reading_model: type, drop_after: str | timedelta | Interval = "90 days"
    ) -> int:
        """Have old readings of a model dropped: by TimescaleDB, or where rollups are over it by us.

        TimescaleDB's own policy would not wait until rollups have computed what it drops.
        See :meth:`TimescalePolicies.create_retention_policy` and
        :meth:`OrmRetention.create_retention_policy`.
        """
        if not self._has_rollup(reading_model):
            number = TimescalePolicies.create_retention_policy(self, reading_model, drop_after)
            self._forget_policy(reading_model)
            return number
        number = OrmRetention.create_retention_policy(self, reading_model, drop_after)
        with contextlib.suppress(NotSupportedByBackend):  # no hypertable, so no policy of it
            TimescalePolicies.remove_retention_policy(self, reading_model)
        return number

    def remove_retention_policy(self, reading_model: type) -> bool:
        """Keep a model's readings for ever; return whether there was a policy."""
        if self._forget_policy(reading_model):
            return True
        return TimescalePolicies.remove_retention_policy(self, reading_model)

    def _has_rollup(self, model: type) -> bool:
        label = ReadingSchema(model).label
        return any(source_key(rollup) == label for rollup in self.rollups().values())

    # --- hypertables

    def ensure_hypertables(self) -> list[str]:
        """Make empty tables of events and readings hypertables.

        Each worker calls this before its first batch and once an hour; it is cheap where there
        is nothing to do.

        Returns:
            The names of those that were made.

        Raises:
            TransientBackendError: a lock was not to be had; try again later.
        """
        found = self.capabilities()
        if not found.has_hypertables:
            return []
        alias = self.get_db_alias()
        with self._connected():
            made = []
            try:
                if make_events_hypertable(alias, found, self._chunk, with_rows=False):
                    made.append("tailrace_event")
            except NotSupportedByBackend as error:
                logger.warning("events of backend %r stay where they are: %s", self.alias, error)
            return made + make_reading_hypertables(alias, found, self._chunk)

    def ensure_partitions(self, now: datetime | None = None) -> list[str]:
        """Make partitions where the events are in no hypertable, which makes its chunks itself."""
        return [] if self._has_hypertable() else super().ensure_partitions(now)

    def partition_existing(self, now: datetime | None = None) -> bool:
        """Make the table of events a hypertable; its rows move into chunks under a lock.

        Where there is no TimescaleDB, it is partitioned as :class:`PostgresBackend` does it.

        Returns:
            Whether there was anything to do.
        """
        found = self.capabilities()
        if not found.has_hypertables:
            return super().partition_existing(now)
        with self._connected():
            return make_events_hypertable(self.get_db_alias(), found, self._chunk, with_rows=True)

    def drop_partitions(
        self,
        before: datetime,
        *,
        keep: bool = False,
        deadline_seconds: float = 30.0,
        may_go: MayGo | None = None,
    ) -> list[Dropped]:
        """Drop the chunks (or partitions) whose events are all older than ``before``.

        Args:
            before: Aware; a chunk goes if it ends at or before it.
            keep: Detach only, which hypertables cannot.
            deadline_seconds: After which time to stop trying.
            may_go: Asked for each chunk; see :class:`PostgresBackend`.

        Returns:
            What was dropped.

        Raises:
            NotSupportedByBackend: ``keep``, with a hypertable.
            TransientBackendError: somebody held on to a chunk until the deadline.
        """
        if not self._has_hypertable():
            return super().drop_partitions(
                before, keep=keep, deadline_seconds=deadline_seconds, may_go=may_go
            )
        if keep:
            raise NotSupportedByBackend(
                "chunks of a hypertable cannot be detached and kept; copy their rows before, or "
                "use tailrace.backends.postgres.PostgresBackend"
            )
        with self._connected():
            alias, found = self.get_db_alias(), self.capabilities()
            return drop_chunks(alias, found, before.astimezone(UTC), deadline_seconds, may_go)

    def event_spans(self) -> list[tuple[datetime, datetime]]:
        """Return from when to when each chunk (or partition) of events goes, the oldest first."""
        if not self._has_hypertable():
            return super().event_spans()
        with self._connected():
            return chunk_spans(self.get_db_alias())

    # --- inside

    def _has_hypertable(self) -> bool:
        if not self.capabilities().has_hypertables:
            return False
        with self._connected():
            return is_events_hypertable(self.get_db_alias())

    def _prepare(self) -> Insert:
        if time.monotonic() >= self._hypertables_due:
            self._hypertables_due = time.monotonic() + _CHECK_SECONDS
            try:
                self.ensure_hypertables()
            except (BackendError, DatabaseError) as error:
                # Rows go into the plain table meanwhile.
                self._hypertables_due = time.monotonic() + _RETRY_SECONDS
                logger.warning("hypertables of backend %r put off: %s", self.alias, error)
        return super()._prepare()
