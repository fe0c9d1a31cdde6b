"""Keeping rollups up to date: what is invalid is computed anew, in whole buckets, in slices.

Three steps, each right by itself, so that a refresh may end, or die, between any two of them:

1. The source's threshold moves to the end of what is about to be computed, in a transaction of its
   own. Writers note from then on what they store before it.
2. What they have noted moves from the source's log to the logs of all levels above it.
3. Slice by slice, the newest first and a slice of each level in turn, buckets are computed
   (``slices.py``): the first level's from rows, each further one's from the level below, where
   nothing waits any more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from tailrace.backends.jobs import Lease
from tailrace.pipeline.faults import fault
from tailrace.pipeline.interval import Interval
from tailrace.pipeline.rollup import Rollup

from . import log
from .changes import objects, source_key
from .declared import rollups_of_backend
from .grid import grid_of
from .ranges import FIRST_US, MIN_US, Range, datetime_of, merged, shown, us_of
from .slices import Level, compute, plan, write

logger = logging.getLogger("tailrace")

SLICE_SECONDS = 0.25
"""What a slice should take; the next ones are larger or smaller accordingly."""
_FIRST_BUCKETS = 64
_BUCKETS_MAX = 20_000
_ENTRIES_MAX = 20_000
_FUTILE_MAX = 20


@dataclass
class Refreshed:
    """What a refresh did."""

    rollup: str
    rows_read: int = 0
    """Rows of the source that were aggregated."""
    partials: int = 0
    """Rows of buckets that were written."""
    slices: int = 0
    ranges: list[tuple[str, Range]] = field(default_factory=list)
    """Which buckets of which level were computed."""
    not_numbers: int = 0
    """Values of the rollup's fields that are no numbers, and in no sum."""
    is_done: bool = True
    """Whether time was enough for all there was to do."""
    seconds: float = 0.0

    def __str__(self) -> str:
        text = f"{self.rows_read} rows into {self.partials} partials in {self.slices} slices"
        if self.not_numbers:
            text += f", {self.not_numbers} values are no numbers and are only counted"
        return text if self.is_done else f"{text}, more is to do"


def _always() -> bool:
    return True


Watch = Callable[[Level, list[Range], Refreshed], None]


class Refresher:
    """A refresh of one rollup of one backend, whose connection is open."""

    def __init__(
        self,
        backend: Any,
        rollup: Rollup,
        *,
        deadline: float | None = None,
        may_go_on: Callable[[], bool] = _always,
        watch: Watch | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            backend: The backend.
            rollup: One of its rollups.
            deadline: By ``time.monotonic()``: when to stop, between two slices.
            may_go_on: Asked before each slice.
            watch: Called after each slice.
        """
        self._backend = backend
        self._using: str = backend.get_db_alias()
        self._rollup = rollup
        self._deadline = deadline
        self._may_go_on = may_go_on
        self._watch = watch
        self._buckets: dict[int, int] = {}
        self._result = Refreshed(rollup.name)

    def run(self, window: Range, *, has_unwanted: bool = False) -> Refreshed:
        """Refresh the buckets that lie in a window as a whole, as far as they need it.

        Args:
            window: Which.
            has_unwanted: Whether to compute what a rollup without data left out, too.

        Raises:
            ValueError: the source has no such field, or there is no such model.
        """
        started = time.monotonic()
        levels = self._levels()
        if levels:
            end_us = self._move_threshold(levels[0], window.high)
            self._move_log(levels[0])
            self._rounds(levels, Range(window.low, end_us), has_unwanted)
        self._result.seconds = round(time.monotonic() - started, 3)
        return self._result

    def _levels(self) -> list[Level]:
        """Return the levels; none where another process has other declarations just now."""
        source = source_key(self._rollup)
        sources = objects(self._using, "RollupSource")
        found = sources.filter(backend=self._backend.alias, source=source).first()
        rows = objects(self._using, "RollupLevel").filter(
            backend=self._backend.alias, rollup=self._rollup.name
        )
        levels: list[Level] = []
        for row in rows.order_by("level"):
            same = row.fingerprint == self._rollup.fingerprint(row.level)
            if not same or row.level != len(levels):
                break
            below = levels[-1] if levels else None
            levels.append(
                Level(self._using, row.id, row.level, self._rollup, source, found.id, below)
            )
        if len(levels) != len(self._rollup.widths):
            logger.warning(
                "rollup %r is declared in another way by another process; it waits for the next "
                "run, when all processes should have the same settings",
                self._rollup.name,
            )
            self._result.is_done = False
            return []
        return levels

    def _move_threshold(self, level: Level, high_us: int) -> int:
        """Have writers note what they store before ``high_us``; return where buckets end."""
        end_us = level.grid.floor(high_us)
        sources = objects(self._using, "RollupSource").filter(id=level.source_id)
        if sources.filter(threshold_us__gte=end_us).exists():
            return end_us
        with transaction.atomic(using=self._using, durable=True):
            # Waits for writers that have seen the old threshold, until they have committed.
            list(sources.select_for_update().values_list("id"))
            sources.filter(threshold_us__lt=end_us).update(threshold_us=end_us)
            fault("refresh_threshold")
        fault("refresh_threshold_moved")
        return end_us

    def _move_log(self, level: Level) -> None:
        """Give what writers have noted to all levels above the source."""
        owner = log.source_owner(level.source_id)
        futile = 0
        while futile < _FUTILE_MAX:
            entries = log.entries(self._using, [owner], _ENTRIES_MAX)
            if not entries:
                return
            futile += not self._moved(entries, level.source)

    def _moved(self, entries: list[log.Entry], source: str) -> bool:
        ranges = merged(each.range for each in entries)
        with transaction.atomic(using=self._using, durable=True):
            levels = objects(self._using, "RollupLevel").filter(
                backend=self._backend.alias, source=source
            )
            for level_id in levels.values_list("id", flat=True).order_by("id"):
                log.add(self._using, log.level_owner(level_id), ranges)
            fault("refresh_log_copied")
            ids = [each.id for each in entries]
            if log.remove(self._using, ids) == len(ids):
                return True
            # Another refresh was faster.
            transaction.set_rollback(True, using=self._using)
            return False

    def _rounds(self, levels: list[Level], window: Range, has_unwanted: bool) -> None:
        futile = 0
        while futile < _FUTILE_MAX:
            done_any = False
            for level in levels:
                if self._is_over():
                    self._result.is_done = False
                    return
                done = self._slice(level, window, has_unwanted)
                done_any = done_any or done is not None
                futile += done is False
            if not done_any:
                return
        self._result.is_done = False

    def _slice(self, level: Level, window: Range, has_unwanted: bool) -> bool | None:
        """Compute a slice; return whether that could be done, ``None`` if there is nothing."""
        started = time.monotonic()
        buckets = self._buckets.get(level.number, _FIRST_BUCKETS)
        chosen = plan(level, window, buckets, has_unwanted=has_unwanted)
        if chosen is None:
            return None
        fault("refresh_planned")
        computed = compute(level, chosen.ranges)
        fault("refresh_computed")
        if not write(level, chosen, computed):
            return False
        took = max(time.monotonic() - started, 0.001)
        factor = min(max(SLICE_SECONDS / took, 0.25), 4.0)
        self._buckets[level.number] = min(max(int(buckets * factor), 1), _BUCKETS_MAX)
        result = self._result
        if level.below is None:
            result.rows_read += computed.rows_read
        result.partials += len(computed.partials)
        result.not_numbers += computed.not_numbers
        result.slices += 1
        result.ranges += [(level.name, each) for each in chosen.ranges]
        if self._watch is not None:
            self._watch(level, chosen.ranges, result)
        return True

    def _is_over(self) -> bool:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return True
        return not self._may_go_on()


def refresh_before(
    backend: Any, source: str, before_us: int, deadline: float, lease: Lease | None
) -> None:
    """Do what :meth:`tailrace.backends.rollups.backend.OrmRollups.refresh_before` says."""
    now = datetime.now(UTC)
    for rollup in rollups_of_backend(backend).values():
        if source_key(rollup) != source:
            continue
        # The bucket that the time is in has to be there, too.
        high = grid_of(rollup.widths[0], rollup.zone_name).ceil(before_us)
        window = Range(MIN_US, min(high, window_end(rollup, now)))
        may_go_on = _always if lease is None else lease.is_ours
        Refresher(backend, rollup, deadline=deadline, may_go_on=may_go_on).run(window)


def scheduled_window(rollup: Rollup, now: datetime) -> Range:
    """Return what beat refreshes: from ``START_OFFSET`` to ``END_OFFSET`` ago."""
    return Range(_ago(rollup.start_offset, rollup, now, MIN_US), window_end(rollup, now))


def window_end(rollup: Rollup, now: datetime) -> int:
    """Return where the buckets of a refresh end, by ``END_OFFSET``."""
    return _ago(rollup.end_offset, rollup, now, us_of(now))


def asked_window(rollup: Rollup, start: datetime | None, end: datetime | None) -> Range:
    """Return what somebody has asked for.

    Args:
        rollup: Of which rollup.
        start: First instant; all from the beginning without.
        end: First instant that does not belong any more, at most the present; without, by
            ``END_OFFSET``.

    Raises:
        ValueError: no bucket lies in it as a whole.
    """
    now = datetime.now(tz=rollup.zone)
    low = MIN_US if start is None else us_of(start)
    high = window_end(rollup, now) if end is None else min(us_of(end), us_of(now))
    finest = grid_of(rollup.widths[0], rollup.zone_name)
    whole = finest.whole(Range(low, high))
    if whole.low >= whole.high:
        raise ValueError(
            f"no bucket of {rollup.widths[0]} lies between {shown(low)} and {shown(high)} as a "
            "whole; give a longer window that has passed"
        )
    return Range(low, high)


def _ago(offset: Interval | None, rollup: Rollup, now: datetime, without: int) -> int:
    if offset is None:
        return without
    if offset.months or datetime_of(FIRST_US) + timedelta(seconds=offset.seconds) < now:
        return us_of(offset.before(now, rollup.zone))
    return MIN_US
