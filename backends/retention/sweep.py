"""One run of retention: what is due goes, in slices, until it is done or time is up."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import connections

from tailrace.backends.django_errors import translated_errors
from tailrace.backends.jobs import Jobs, Lease, now_us
from tailrace.backends.private_connection import private_connection
from tailrace.backends.reading.dialects import dialect_of
from tailrace.backends.rollups.ranges import MIN_US, shown
from tailrace.pipeline.errors import TransientBackendError
from tailrace.pipeline.faults import fault
from tailrace.pipeline.retention import Policy

from . import floor, levels, sizes, whole
from .plan import Due, due_by_age, targets
from .progress import Progress, ProgressStore
from .slices import Pace, Slices

logger = logging.getLogger("tailrace")

JOB = "retention"
_TURN_SECONDS = 5.0
"""How long a target is worked at before the others have their turn."""
_SAVE_SECONDS = 1.0
_FULL_PASS_SECONDS = 86_400.0
"""How often what was held is looked at again, and what came too late behind a pass."""
_WHOLE_SECONDS = 5.0
"""How long to try for the locks of partitions; one who reads for hours must not stop the rest."""
_random = random.Random()
_utc_now: Callable[[], datetime] = partial(datetime.now, UTC)


@dataclass
class Report:
    """What a run did."""

    rows: dict[str, int] = field(default_factory=dict)
    """Deleted, by target."""
    dropped: list[str] = field(default_factory=list)
    """Partitions and chunks that went as a whole."""
    waits: dict[str, str] = field(default_factory=dict)
    """What keeps a target from going as far as its policy says."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with a policy."""
    is_finished: bool = False
    """Whether nothing is left to do until time passes."""
    longest_slice_seconds: float = 0.0
    is_skipped: bool = False
    """Whether another process is at it, or it is not due: nothing was done."""

    def add(self, target: str, rows: int) -> None:
        """Count rows that went."""
        if rows:
            self.rows[target] = self.rows.get(target, 0) + rows

    def __str__(self) -> str:
        if self.is_skipped:
            return "not due, or done by another process"
        parts = [f"{target}: {rows} rows" for target, rows in sorted(self.rows.items())]
        parts += [f"dropped {name}" for name in self.dropped]
        parts += [f"{target} waits for {what}" for target, what in sorted(self.waits.items())]
        parts += self.problems
        if not self.is_finished:
            parts.append("goes on with the next run")
        return "; ".join(parts) or "nothing was due"


def sweep(
    backend: Any, policies: Mapping[str, Policy], *, seconds: float, every_seconds: float = 0.0
) -> Report:
    """Delete what is due, unless another process is at it.

    Args:
        backend: An ORM backend.
        policies: Of the settings, by target.
        seconds: When to stop; the next run goes on from there.
        every_seconds: Not again before so long after the last run that came to its end.

    Raises:
        TransientBackendError: what was deleted stays deleted; the next run goes on.
        BackendMisconfigured: the tables are missing.
    """
    report = Report()
    with Jobs(backend.alias, backend.get_db_alias()).lease(
        JOB, every_seconds=every_seconds
    ) as lease:
        if lease is None:
            report.is_skipped = report.is_finished = True
            return report
        try:
            _Run(backend, policies, lease, seconds, report).do()
        finally:
            lease.is_unfinished = not report.is_finished
            lease.say(str(report))
    return report


class _Run:
    """The state of one run."""

    def __init__(
        self,
        backend: Any,
        policies: Mapping[str, Policy],
        lease: Lease,
        seconds: float,
        report: Report,
    ) -> None:
        self._backend = backend
        self._using = str(backend.get_db_alias())
        self._policies = policies
        self.lease = lease
        self._deadline = time.monotonic() + seconds
        self._report = report
        self.store = ProgressStore(backend.alias, self._using)
        is_sqlite = connections[self._using].vendor == "sqlite"
        self.pace = Pace(connections[self._using].vendor, self._checkpoint if is_sqlite else None)
        self._now = _utc_now()
        self._is_cut_short = False

    def do(self) -> None:
        with self._connected() as connection:
            dialect = dialect_of(connection)
            dialect.prepare()
            floor.prepare(self._backend)
            waiting = [
                _Pass(self, due, self.store.load(due.target.name)) for due in self._due(dialect)
            ]
            self._drop_whole(waiting)
            _random.shuffle(waiting)
            while waiting and self.has_time:
                waiting = [each for each in waiting if not each.work()]
            self._sweep_levels()
            self._report.is_finished = not waiting and not self._is_cut_short
            self._report.longest_slice_seconds = self.pace.longest_seconds

    @property
    def has_time(self) -> bool:
        return time.monotonic() < self._deadline

    def _due(self, dialect: Any) -> Iterator[Due]:
        for target, policy in targets(self._backend, dialect, self._policies):
            try:
                due = due_by_age(target, policy, self._now)
                target.condition(policy.hold, of_all=False)
                for tags, _ in due.rules:
                    target.condition(tags, of_all=True)
            except ValueError as error:
                message = f"TAILRACE['RETENTION'][{policy.target!r}]: {error}"
                logger.error("%s", message)
                self._report.problems.append(message)
                continue
            wanted = due.at_least(sizes.oldest_kept_us(target, policy))
            if wanted.last_us == MIN_US:
                continue
            yield self._limited(wanted)

    def _limited(self, wanted: Due) -> Due:
        """Have rollups computed, and return what may go then."""
        target = wanted.target
        before_us = floor.aligned(self._using, target.sources, wanted.last_us)
        if before_us == MIN_US:
            self._report.waits[target.name] = floor.at_odds(self._using, target.sources)
            return wanted.limited(before_us)
        try:
            floor.refresh(self._backend, target.sources, before_us, self._deadline, self.lease)
        except ValueError as error:
            # Nothing of it goes, then, that the rollup has not computed.
            logger.error("retention of %s: %s", target.name, error)
            self._report.problems.append(f"{target.name}: {error}")
        self.lease.check()
        found = floor.raise_floor(self._using, target.sources, before_us)
        if found.waits_for:
            self._report.waits[target.name] = found.waits_for
            self._is_cut_short = self._is_cut_short or not self.has_time
        return wanted.limited(found.before_us)

    def _drop_whole(self, waiting: list[_Pass]) -> None:
        dues = {each.due.target.name: each.due for each in waiting if each.due.target.is_event}
        until = min(self._deadline, time.monotonic() + _WHOLE_SECONDS)
        try:
            found = whole.drop(self._backend, dues, until)
        except TransientBackendError as error:
            # Their rows go in slices meanwhile; that takes no lock that a reader is in the way of.
            logger.warning("partitions of backend %r stay for now: %s", self._backend.alias, error)
            self._report.waits["whole partitions"] = str(error)
            return
        for dropped in found:
            self._report.dropped.append(dropped.name)
            self.lease.rows += max(dropped.rows, 0)

    def _sweep_levels(self) -> None:
        for name, rows in levels.sweep(
            self._backend, self._policies, self._now, self.pace, self._keeps_on
        ):
            self._report.add(name, rows)
            self.lease.rows += rows

    def _keeps_on(self) -> bool:
        self.lease.check()
        self._is_cut_short = self._is_cut_short or not self.has_time
        return self.has_time

    def waits_for(self, target: str) -> str:
        return self._report.waits.get(target, "")

    def deleted(self, target: str, rows: int) -> None:
        self._report.add(target, rows)
        self.lease.rows += rows

    def _checkpoint(self) -> None:
        """Bring what a slice left in the write-ahead log into the file, while nobody is locked out.

        Otherwise the commit that fills the log does that, and it would often be the drain's. (In
        another journal mode this does nothing.)
        """
        with connections[self._using].cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        with translated_errors(self._using), private_connection(self._using) as connection:
            yield connection


class _Pass:
    """Going once over what is old of a target."""

    def __init__(self, run: _Run, due: Due, progress: Progress) -> None:
        self._run = run
        self.due = due
        self._progress = progress
        self._begin()
        assert progress.position_us is not None, "a pass has begun"
        self._slices = Slices(due, progress.position_us, run.pace)

    def _begin(self) -> None:
        """Go on where the last run stopped; else where the last pass left something to do."""
        progress, policy = self._progress, repr(self.due.policy)
        progress.before_us = self.due.last_us
        progress.waits_for = self._run.waits_for(self.due.target.name)
        if progress.policy != policy:
            progress.policy, progress.position_us, progress.examined_us = policy, None, MIN_US
        if progress.position_us is not None:
            return
        is_old = now_us() - progress.full_us >= _FULL_PASS_SECONDS * 1e6
        progress.position_us = MIN_US if self.due.is_plain or is_old else progress.examined_us
        if progress.position_us == MIN_US:
            progress.full_us = now_us()
        progress.rows = 0

    def work(self) -> bool:
        """Delete for a while; return whether nothing is left."""
        run, name = self._run, self.due.target.name
        until = saved = time.monotonic()
        until += _TURN_SECONDS
        while not self._slices.is_done and run.has_time and time.monotonic() < until:
            run.lease.check()
            rows = self._slices.delete()
            run.deleted(name, rows)
            self._progress.rows += rows
            self._progress.position_us = self._slices.position_us
            if time.monotonic() - saved > _SAVE_SECONDS:
                saved = time.monotonic()
                run.store.save(name, self._progress)
        if self._slices.is_done:
            self._end()
        run.store.save(name, self._progress)
        fault("after_pass")
        return self._slices.is_done

    def _end(self) -> None:
        progress = self._progress
        progress.position_us = None
        progress.examined_us = self.due.first_us
        progress.finished_us = now_us()
        progress.last_rows = progress.rows
        progress.total_rows += progress.rows
        progress.rows = 0
        if progress.last_rows:
            logger.info(
                "retention: %s rows of %s before %s are gone",
                progress.last_rows,
                self.due.target.name,
                shown(self.due.last_us),
            )
