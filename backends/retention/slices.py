"""Deleting in slices that nobody has to wait for.

A slice is one statement over a range of time by the index, of at most ``SLICE_ROWS`` rows. How
many it is depends on how long the last one took. Between slices is a pause: on SQLite, where
there is one writer at a time, one who waits looks again every 100 ms, and must then find the
door open.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tailrace.backends.rollups.ranges import us_of
from tailrace.pipeline.faults import fault

from .plan import Due

SLICE_ROWS = 5_000
SLICE_SECONDS = 0.2
"""What a slice may take at most."""
_AIM_SECONDS = 0.08
_SQLITE_AIM_SECONDS = 0.04
"""Shorter: everybody who writes waits for it, and on a busy machine it takes several times that."""
_FIRST_ROWS = 500
_LEAST_ROWS = 50
_CHANGE = 2.0
# https://www.sqlite.org/c3ref/busy_timeout.html: its handler sleeps for up to 100 ms.
_SQLITE_PAUSE_SECONDS = 0.11
_PAUSE_SHARE = 0.5
_NOTHING_SECONDS = 0.01
"""What found nothing to delete, this quickly, was in nobody's way."""

_monotonic: Callable[[], float] = time.monotonic
_sleep: Callable[[float], None] = time.sleep


class Pace:
    """How many rows the next slice may have, and how long to wait before it."""

    def __init__(self, vendor: str, settle: Callable[[], object] | None = None) -> None:
        """Start slowly.

        Args:
            vendor: Django's name of the database.
            settle: Called after a slice that changed something, before the pause.
        """
        self._settle = settle
        self.rows = _FIRST_ROWS
        self.longest_seconds = 0.0
        """What the longest slice took."""
        self._is_sqlite = vendor == "sqlite"
        self._aim_seconds = _SQLITE_AIM_SECONDS if self._is_sqlite else _AIM_SECONDS

    def timed(self, delete: Callable[[int], int]) -> int:
        """Delete a slice, learn what it took, and wait.

        Args:
            delete: Takes how many rows it may be at most, and returns how many they were.
        """
        started = _monotonic()
        rows = delete(self.rows)
        fault("mid_retention")
        seconds = _monotonic() - started
        if rows or seconds > _NOTHING_SECONDS:
            self._ran(seconds)
        return rows

    def _ran(self, seconds: float) -> None:
        self.longest_seconds = max(self.longest_seconds, seconds)
        factor = min(max(self._aim_seconds / max(seconds, 1e-4), 1 / _CHANGE**2), _CHANGE)
        self.rows = int(min(max(self.rows * factor, _LEAST_ROWS), SLICE_ROWS))
        if self._settle is not None:
            self._settle()
        pause = seconds * _PAUSE_SHARE
        _sleep(max(pause, _SQLITE_PAUSE_SECONDS) if self._is_sqlite else pause)


class Slices:
    """The rows of a target that are due, a slice at a time, the oldest first."""

    def __init__(self, due: Due, position_us: int, pace: Pace) -> None:
        """Begin somewhere.

        Args:
            due: What is to go.
            position_us: What is before it has been seen.
            pace: How fast; shared by the targets of a run.
        """
        self._due = due
        self._pace = pace
        self.position_us = position_us
        """How far it has come."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.position_us >= self._due.last_us

    def delete(self) -> int:
        """Delete a slice; return how many rows it had that go. Then pause."""
        high_us = self._end_of_slice()
        if high_us == self.position_us:
            return self._pace.timed(self._delete_at_once)

        def delete(size: int) -> int:
            return self._due.target.delete(self._due.rows(self.position_us, high_us))

        deleted = self._pace.timed(delete)
        self.position_us = high_us
        return deleted

    def _end_of_slice(self) -> int:
        """Return where the slice ends, so that it has no more rows than it may."""
        due = self._due
        times = due.target.rows(self.position_us, due.last_us).order_by(due.target.time_name)
        following: datetime | None = times.values_list(due.target.time_name, flat=True)[
            self._pace.rows : self._pace.rows + 1
        ].first()
        return due.last_us if following is None else us_of(following)

    def _delete_at_once(self, size: int) -> int:
        """Delete some of more rows of one and the same time than a slice may have."""
        due, now_us = self._due, self.position_us
        rows = due.rows(now_us, now_us + 1).order_by("pk")
        keys: list[Any] = list(rows.values_list("pk", flat=True)[:size])
        if len(keys) < size:
            self.position_us += 1
        if not keys:
            return 0
        return due.target.delete(due.target.rows(now_us, now_us + 1).filter(pk__in=keys))
