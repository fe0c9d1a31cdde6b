"""Where the buckets of an interval begin and end, in microseconds since 1970 (UTC)."""

from __future__ import annotations

import functools
import itertools
from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo

from tailrace.pipeline.interval import (
    ORIGIN,
    Buckets,
    Interval,
    first_instant,
    parse_zone,
    segments,
)

from .ranges import FIRST_US, LAST_US, MAX_US, MIN_US, Range, datetime_of, merged, us_of

_ORIGIN_US = us_of(ORIGIN.replace(tzinfo=UTC))
_SECOND_US = 1_000_000
_MARGIN = timedelta(days=3)
"""More than any clock is away from UTC, or was ever put back."""


class Grid:
    """The buckets of one width in one time zone.

    Ranges are cut only where no bucket is on both sides. That is at the start of each bucket,
    but where the clock is put back over such a start: days in St. John's were, at one minute
    past midnight, and then two buckets are only cut together.
    """

    def __init__(self, interval: Interval, zone_name: str) -> None:
        """Take the width and the name of the zone."""
        self.interval = interval
        self.zone = parse_zone(None if zone_name == "UTC" else zone_name)
        self.is_plain = self.zone is UTC and not interval.months
        self._width_us = interval.seconds * _SECOND_US
        self._next = functools.lru_cache(maxsize=4_096)(self._compute_next)
        self._previous = functools.lru_cache(maxsize=4_096)(self._compute_cut)

    def floor(self, time_us: int) -> int:
        """Return the last cut at or before a time."""
        if not FIRST_US < time_us < LAST_US:
            return MIN_US if time_us <= FIRST_US else MAX_US
        if self.is_plain:
            return time_us - (time_us - _ORIGIN_US) % self._width_us
        return self._previous(time_us)

    def ceil(self, time_us: int) -> int:
        """Return the first cut at or after a time."""
        if not FIRST_US < time_us < LAST_US:
            return MIN_US if time_us <= FIRST_US else MAX_US
        found = self.floor(time_us)
        return found if found == time_us else self.after(found)

    def after(self, cut_us: int) -> int:
        """Return the cut that follows one."""
        if self.is_plain:
            return cut_us + self._width_us
        return self._next(cut_us)

    def widened(self, ranges: Iterable[Range]) -> list[Range]:
        """Return all buckets, whole, that ranges touch."""
        return merged(Range(self.floor(low), self.ceil(high)) for low, high in ranges)

    def whole(self, window: Range) -> Range:
        """Return the buckets that lie in a window as a whole."""
        low, high = self.ceil(window.low), self.floor(window.high)
        return Range(low, max(low, high))

    def back(self, high: int, low: int, buckets: int) -> int:
        """Return the cut that is some buckets before ``high``, or ``low`` if that comes first."""
        if self.is_plain:
            return max(low, high - buckets * self._width_us)
        place = high
        for _ in range(buckets):
            if place <= max(low, FIRST_US):
                return low
            place = self.floor(place - 1)
        return max(low, place)

    def bucket_of(self, times_us: Iterable[int]) -> dict[int, int]:
        """Return, for each time, the first instant of the bucket that it is in."""
        known = sorted(set(times_us))
        if self.is_plain:
            return {each: each - (each - _ORIGIN_US) % self._width_us for each in known}
        if not known:
            return {}
        first, last = datetime_of(known[0]), datetime_of(known[-1])
        buckets = Buckets(self.interval, self.zone, first, last)
        return {each: us_of(buckets.start_of(datetime_of(each))) for each in known}

    def _compute_cut(self, time_us: int) -> int:
        moment = datetime_of(time_us)
        parts = segments(self.zone, moment - _MARGIN, moment + _MARGIN)
        if self.interval.tells_offsets_apart:
            # Each offset has buckets of its own, which follow one another.
            buckets = Buckets(self.interval, self.zone, moment - _MARGIN, moment + _MARGIN)
            return us_of(buckets.start_of(moment))
        at = bisect_right([each.start for each in parts], moment) - 1
        wall = moment.replace(tzinfo=None) + parts[at].offset
        start = self._clean(self.interval.wall_start(self.interval.index(wall)), moment)
        return us_of(start)

    def _clean(self, wall: datetime, near: datetime) -> datetime:
        """Return the start of the bucket at ``wall``, or of an earlier one, that is a cut."""
        while True:
            back = _put_back_over(wall, self.zone)
            if back is None:
                return first_instant(wall, self.zone)
            wall = self.interval.wall_start(self.interval.index(back))

    def _compute_next(self, cut_us: int) -> int:
        place = datetime_of(cut_us)
        if self.interval.tells_offsets_apart:
            following = place + self.interval.as_timedelta()
            offset = place.astimezone(self.zone).utcoffset() or timedelta()
            wall = place.replace(tzinfo=None) + offset
            end = self.interval.wall_start(self.interval.index(wall) + 1) - offset
            following = end.replace(tzinfo=UTC)
            changes = segments(self.zone, place, following)[1:]
            return us_of(min([following, *(each.start for each in changes)]))
        index = self.interval.index(place.astimezone(self.zone).replace(tzinfo=None))
        while True:
            index += 1
            wall = self.interval.wall_start(index)
            found = us_of(first_instant(wall, self.zone))
            if found > cut_us and _put_back_over(wall, self.zone) is None:
                return found


@functools.lru_cache(maxsize=256)
def grid_of(interval: Interval, zone_name: str) -> Grid:
    """Return the grid; always the same, since it remembers what it has computed."""
    return Grid(interval, zone_name)


def _put_back_over(wall: datetime, zone: tzinfo) -> datetime | None:
    """Return to where the clock was put back over ``wall``; ``None`` if it was not."""
    around = wall.replace(tzinfo=UTC)
    try:
        parts = segments(zone, around - _MARGIN, around + _MARGIN)
    except OverflowError:
        return None
    for before, after in itertools.pairwise(parts):
        shown_after = after.start.replace(tzinfo=None) + after.offset
        shown_before = after.start.replace(tzinfo=None) + before.offset
        if shown_after < wall < shown_before:
            return shown_after
    return None
