"""What a backend on a Django database does with rollups."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import connections

from tailrace.backends.base import BaseBackend
from tailrace.backends.django_errors import translated_errors
from tailrace.backends.jobs import Jobs, Lease
from tailrace.backends.private_connection import private_connection
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.interval import aware
from tailrace.pipeline.rollup import Rollup

from .declared import rollups_of_backend, synchronise
from .invalidation import has_tables
from .orphans import remove_orphans
from .refresh import (
    Refreshed,
    Refresher,
    Watch,
    asked_window,
    refresh_before,
    scheduled_window,
)

logger = logging.getLogger("tailrace")

DUE_SECONDS = 20.0
"""How long one run of :meth:`OrmRollups.refresh_due` works before it makes room for others."""


class OrmRollups(BaseBackend):
    """A part of :class:`tailrace.backends.django_db.DjangoDBBackend`."""

    def rollups(self) -> dict[str, Rollup]:
        """Return the rollups of this backend, by name."""
        with self._rollup_tables() as is_migrated:
            return rollups_of_backend(self) if is_migrated else {}

    def refresh_rollup(
        self,
        name: str,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        watch: Watch | None = None,
        deadline_seconds: float | None = None,
    ) -> Refreshed:
        """Compute what is invalid in the buckets that lie within ``[start, end)``.

        Args:
            name: Of the rollup.
            start: First instant; from the beginning without.
            end: First instant that does not belong any more; by the rollup's ``END_OFFSET``
                without.
            watch: Called after each slice: the level, the ranges, what is done so far.
            deadline_seconds: After which time to stop.

        Returns:
            What was done. Buckets that are right are not touched.

        Raises:
            ValueError: there is no such rollup, no such field, or no bucket in the window.
            TransientBackendError, BackendMisconfigured: see ``base.py``.
        """
        first = None if start is None else aware(start, "start")
        last = None if end is None else aware(end, "end")
        with self._rollup_tables() as is_migrated:
            rollup = rollups_of_backend(self).get(name) if is_migrated else None
            if rollup is None:
                raise ValueError(_unknown(self, name, is_migrated))
            window = asked_window(rollup, first, last)
            synchronise(self)
            deadline = None if deadline_seconds is None else time.monotonic() + deadline_seconds
            refresher = Refresher(self, rollup, deadline=deadline, watch=watch)
            return refresher.run(window, has_unwanted=True)

    def refresh_due(self, deadline_seconds: float = DUE_SECONDS) -> dict[str, str]:
        """Refresh the rollups whose time has come; beat calls it, as often as it likes.

        Several may call it at once: each rollup is refreshed by one of them. One that fails is no
        reason to leave out the others; its error is in the log and in the record of its job.

        Args:
            deadline_seconds: After which time to leave the rest for the next call.

        Returns:
            What was done, by rollup, for the log.
        """
        deadline = time.monotonic() + deadline_seconds
        done: dict[str, str] = {}
        with self._rollup_tables() as is_migrated:
            if not is_migrated:
                return {}
            changes = synchronise(self)
            if changes:
                done["declarations"] = "; ".join(changes)
            for name, rollup in sorted(rollups_of_backend(self).items()):
                outcome = self._refresh_if_due(rollup, deadline, changes)
                if outcome is not None:
                    done[name] = outcome
            removed = remove_orphans(str(self.get_db_alias()), deadline)
            if removed:
                done["removed"] = f"{removed} rows of levels that are gone"
        return done

    def refresh_before(
        self, source: str, before_us: int, deadline: float, lease: Lease | None = None
    ) -> None:
        """Refresh what waits before a time in all rollups of a source; for retention.

        Args:
            source: A measurement, or a model's label.
            before_us: The time, in microseconds since 1970.
            deadline: By ``time.monotonic()``: when to stop.
            lease: The caller's; nothing is begun once it is lost.
        """
        with self._rollup_tables() as is_migrated:
            if is_migrated:
                refresh_before(self, source, before_us, deadline, lease)

    def _refresh_if_due(self, rollup: Rollup, deadline: float, changes: list[str]) -> str | None:
        jobs = Jobs(self.alias, str(self.get_db_alias()))
        every_seconds = float(rollup.schedule_interval.seconds)
        try:
            with jobs.lease(f"refresh:{rollup.name}", every_seconds=every_seconds) as lease:
                if lease is None:
                    return None
                for change in changes:
                    if f"'{rollup.name}" in change:
                        lease.say(change)
                refresher = Refresher(self, rollup, deadline=deadline, may_go_on=lease.is_ours)
                result = refresher.run(scheduled_window(rollup, datetime.now(UTC)))
                lease.rows += result.partials
                lease.is_unfinished = not result.is_done
                lease.say(str(result))
                return str(result)
        except (ValueError, BackendError) as error:
            logger.error(
                "rollup %r of backend %r could not be refreshed, it is tried again when it is "
                "due: %s",
                *(rollup.name, self.alias, error),
            )
            return f"failed: {error}"

    @contextmanager
    def _rollup_tables(self) -> Iterator[bool]:
        """Open our connection; yield whether rollups can work on it."""
        using = str(self.get_db_alias())
        with translated_errors(using), private_connection(using):
            yield has_tables(connections[using])


def _unknown(backend: Any, name: str, is_migrated: bool) -> str:
    if not is_migrated:
        using = backend.get_db_alias()
        return (
            f"backend {backend.alias!r} has no rollups: its database lacks their tables, or is "
            f"none that they work on. Run: manage.py migrate tailrace --database={using}"
        )
    known = ", ".join(sorted(rollups_of_backend(backend))) or "none"
    return f"backend {backend.alias!r} has no rollup {name!r:.80}; it has: {known}"
