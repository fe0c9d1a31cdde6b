"""Intervals such as ``"5 minutes"``, and the buckets they cut time into.

One parser for queries, rollups and retention, so that what one backend takes, all take. And
one definition of a bucket:

* Its start is on the wall clock of a time zone (UTC unless another is asked for), a whole number
  of intervals away from Monday, 2000-01-03 00:00 (months and years: from 2000-01-01). So weeks
  start on Monday, and these are also the buckets of TimescaleDB's ``time_bucket``.
* An instant belongs to the bucket that its wall clock shows. A day on which the clock is put
  back has 25 hours. Intervals of an hour or less tell the repeated hour from the first one:
  such a day has 25 buckets of an hour.
* A bucket is stamped with its first instant. Where the clock jumps over its start, that is the
  instant of the jump.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_HOUR_SECONDS = 3_600
_DAY_SECONDS = 86_400
_SECONDS_BY_UNIT = {
    "second": 1,
    "minute": 60,
    "hour": _HOUR_SECONDS,
    "day": _DAY_SECONDS,
    "week": 7 * _DAY_SECONDS,
}
_MONTHS_BY_UNIT = {"month": 1, "year": 12}
_SHORT_FORMS = {
    "second": ("s", "sec", "secs"),
    "minute": ("m", "min", "mins"),
    "hour": ("h", "hr", "hrs"),
    "day": ("d",),
    "week": ("w",),
    "month": ("mo", "mon"),
    "year": ("y", "yr", "yrs"),
}
_UNITS = {form: unit for unit, short in _SHORT_FORMS.items() for form in (unit, f"{unit}s", *short)}
_PATTERN = re.compile(r"(?:([0-9]{1,9})\s*)?([a-zA-Z]{1,7})", re.ASCII)
_KNOWN = (
    "write a unit (second, minute, hour, day, week, month, year), a number and a unit "
    "('5 minutes', '90s', '1h'; short: s, m, h, d, w, mo, y), or a timedelta of whole seconds"
)
_MAX_SECONDS = 1_000 * 366 * _DAY_SECONDS
_MAX_MONTHS = 12_000

ORIGIN = datetime(2000, 1, 3)
"""A Monday; wall clock. Intervals of seconds to weeks are counted from here."""
_ORIGIN_YEAR = 2000
_SECOND = timedelta(seconds=1)
_STEP = timedelta(hours=12)


@dataclass(frozen=True)
class Interval:
    """The width of a bucket: either ``seconds`` or ``months``; the other one is 0."""

    seconds: int = 0
    months: int = 0

    def __post_init__(self) -> None:
        if min(self.seconds, self.months) or max(self.seconds, self.months) <= 0:
            raise ValueError(f"an interval has seconds or months, not {self!r}")

    def __str__(self) -> str:
        if self.months:
            return _counted(self.months, {"year": 12, "month": 1})
        return _counted(self.seconds, dict(reversed(_SECONDS_BY_UNIT.items())))

    @property
    def tells_offsets_apart(self) -> bool:
        """Is the hour that a clock repeats another bucket than the first one?"""
        return 0 < self.seconds <= _HOUR_SECONDS

    def as_timedelta(self) -> timedelta:
        """Return the length.

        Raises:
            ValueError: months and years have no fixed length.
        """
        if self.months:
            raise ValueError(f"{self} has no fixed length; write days")
        return timedelta(seconds=self.seconds)

    def index(self, wall: datetime) -> int:
        """Return the number of the bucket that a naive wall clock time falls into."""
        if self.months:
            return ((wall.year - _ORIGIN_YEAR) * 12 + wall.month - 1) // self.months
        return (wall - ORIGIN) // timedelta(seconds=self.seconds)

    def wall_start(self, index: int) -> datetime:
        """Return the wall clock time at which bucket number ``index`` starts.

        Raises:
            ValueError: it is before the year 1 or after 9999.
        """
        try:
            if self.months:
                year, month = divmod(index * self.months, 12)
                return datetime(_ORIGIN_YEAR + year, month + 1, 1)
            return ORIGIN + timedelta(seconds=index * self.seconds)
        except (OverflowError, ValueError) as error:
            raise ValueError(f"a bucket of {self} would be outside of the years 1-9999") from error

    def before(self, moment: datetime, zone: tzinfo = UTC) -> datetime:
        """Return the instant one interval before an aware datetime, by the calendar of a zone.

        Days and longer are counted on the wall clock (a day may have 23 hours); one month before
        the 31st is the last day of a month that has no 31st.
        """
        return self._moved(moment, zone, -1)

    def after(self, moment: datetime, zone: tzinfo = UTC) -> datetime:
        """Return the instant one interval after an aware datetime, by the calendar of a zone."""
        return self._moved(moment, zone, 1)

    def _moved(self, moment: datetime, zone: tzinfo, times: int) -> datetime:
        instant = aware(moment, "the time")
        if self.seconds % _DAY_SECONDS:
            return (instant + times * self.as_timedelta()).astimezone(zone)
        wall = instant.astimezone(zone).replace(tzinfo=None)
        if not self.months:
            return first_instant(wall + times * self.as_timedelta(), zone)
        year, month = divmod(wall.year * 12 + wall.month - 1 + times * self.months, 12)
        next_month = datetime(year + month // 11, (month + 1) % 12 + 1, 1)
        last_day = (next_month - timedelta(days=1)).day
        moved = wall.replace(year=year, month=month + 1, day=min(wall.day, last_day))
        return first_instant(moved, zone)


def parse_interval(value: str | timedelta | Interval) -> Interval:
    """Read an interval.

    Args:
        value: ``"minute"``, ``"5 minutes"``, ``"1h"``, ``"90s"``, a ``timedelta``, ...

    Raises:
        ValueError: it is none, or not positive, or longer than 1000 years; the message says
            what can be written.
    """
    if isinstance(value, Interval):
        return value
    if isinstance(value, timedelta):
        seconds, rest = divmod(value, _SECOND)
        if rest or not 0 < seconds <= _MAX_SECONDS:
            raise ValueError(f"interval {value!r} cannot be used; {_KNOWN}")
        return Interval(seconds=seconds)
    match = _PATTERN.fullmatch(value.strip()) if isinstance(value, str) else None
    # "M" is a month in some systems and a minute in others.
    word = match.group(2) if match else "M"
    unit = None if word == "M" else _UNITS.get(word.lower())
    if match is None or unit is None:
        raise ValueError(f"interval {value!r:.80} is not known; {_KNOWN}")
    count = int(match.group(1) or 1)
    interval = Interval(
        seconds=count * _SECONDS_BY_UNIT.get(unit, 0), months=count * _MONTHS_BY_UNIT.get(unit, 0)
    )
    if not count or interval.seconds > _MAX_SECONDS or interval.months > _MAX_MONTHS:
        raise ValueError(f"interval {value!r:.80} must be positive and at most 1000 years")
    return interval


def parse_zone(value: str | tzinfo | None) -> tzinfo:
    """Return a time zone from its name or itself; ``None`` is UTC.

    Raises:
        ValueError: there is no such zone.
    """
    if value is None:
        return UTC
    if isinstance(value, tzinfo):
        return value
    try:
        return ZoneInfo(value)
    # A name may also be a folder, too long, no text at all, or hold a NUL.
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError, AttributeError) as error:
        raise ValueError(
            f"time zone {value!r:.80} is not known; write a name such as 'Europe/Berlin'"
        ) from error


def aware(moment: datetime, name: str) -> datetime:
    """Return an aware datetime in UTC.

    Args:
        moment: The datetime.
        name: What it is called in the error.

    Raises:
        ValueError: it is naive, no datetime, or beyond the years 1 to 9999 in UTC.
    """
    if not isinstance(moment, datetime):
        raise ValueError(f"{name} is {moment!r:.80}; pass an aware datetime")
    if moment.utcoffset() is None:
        raise ValueError(
            f"{name} is the naive datetime {moment.isoformat()}; pass an aware one "
            "(django.utils.timezone.now())"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{name} is beyond the years 1 to 9999 in UTC") from error


def first_instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return the first instant at which the clock of ``zone`` shows ``wall`` or has jumped over it.

    Args:
        wall: A naive datetime.
        zone: The time zone.
    """
    early = wall.replace(tzinfo=zone, fold=0)
    found = early.astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == wall:
        return found.astimezone(zone)
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change_between(before, found, zone).astimezone(zone)


@dataclass(frozen=True)
class Segment:
    """A stretch of time in which a zone's offset from UTC stays the same."""

    start: datetime
    """First instant, in UTC; of the first segment, an instant in it."""
    offset: timedelta

    @property
    def offset_seconds(self) -> int:
        """The offset in seconds."""
        return self.offset // _SECOND


def segments(zone: tzinfo, start: datetime, end: datetime) -> list[Segment]:
    """Return the offsets of a zone from ``start`` (included) to ``end`` (included), both in UTC."""
    changes = [Segment(start, start.astimezone(zone).utcoffset() or timedelta())]
    # Zones of dateutil cannot be hashed.
    find = _changes if zone.__hash__ is None else _cached_changes
    for year in range(start.year, end.year + 1):
        changes += [each for each in find(zone, year) if start < each.start <= end]
    return changes


def _changes(zone: tzinfo, year: int) -> tuple[Segment, ...]:
    """Return the changes of a zone's offset within a year, in UTC.

    Looked for in steps of half a day, which is shorter than any zone keeps an offset.
    """
    found = []
    moment = datetime(year, 1, 1, tzinfo=UTC) - (_STEP if year > 1 else timedelta())
    last = _local(moment, zone)
    while True:
        try:
            after = moment + _STEP
        except OverflowError:
            break
        offset = _local(after, zone)
        if offset != last:
            change = _change_between(moment, after, zone)
            if change.year == year:
                found.append(Segment(change, offset))
        if after.year > year:
            break
        moment, last = after, offset
    return tuple(found)


_cached_changes = lru_cache(maxsize=4_096)(_changes)


def _local(moment: datetime, zone: tzinfo) -> timedelta:
    try:
        return moment.astimezone(zone).utcoffset() or timedelta()
    except OverflowError:  # the first and last hours of the years 1 and 9999
        return timedelta()


def _change_between(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return the first second (UTC) at which the offset is no more what it was ``before``."""
    low, high = 0, -((before - after) // _SECOND)
    offset = _local(before, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _local(before + middle * _SECOND, zone) == offset:
            low = middle
        else:
            high = middle
    return before + high * _SECOND


class Buckets:
    """The buckets of an interval in a time zone, within a window."""

    def __init__(self, interval: Interval, zone: tzinfo, start: datetime, end: datetime) -> None:
        """Prepare.

        Args:
            interval: The width.
            zone: Whose wall clock counts.
            start: First instant of the window, in UTC.
            end: Last instant, in UTC.
        """
        self.interval = interval
        self.zone = zone
        self._start, self._end = start, end
        self.segments = segments(zone, start, end)
        self._changes = [segment.start for segment in self.segments]

    def start_of(self, moment: datetime) -> datetime:
        """Return the start of the bucket that an instant of the window (in UTC) falls into."""
        segment = self.segments[max(bisect_right(self._changes, moment) - 1, 0)]
        wall = moment.replace(tzinfo=None) + segment.offset
        return self.start(self.interval.index(wall), segment.offset_seconds)

    def start(self, index: int, offset_seconds: int) -> datetime:
        """Return a bucket's first instant as a datetime of the zone.

        Args:
            index: See :meth:`Interval.index`.
            offset_seconds: The offset from UTC of the instants in it; counts only where the
                interval tells offsets apart.
        """
        wall = self.interval.wall_start(index)
        if not self.interval.tells_offsets_apart:
            return first_instant(wall, self.zone)
        begin = (wall - timedelta(seconds=offset_seconds)).replace(tzinfo=UTC)
        local = begin.astimezone(self.zone)
        if local.utcoffset() == timedelta(seconds=offset_seconds):
            return local
        # The offset was another one then: the bucket starts with the change of the clock.
        width = self.interval.as_timedelta()
        return _change_between(begin, begin + width, self.zone).astimezone(self.zone)

    def __iter__(self) -> Iterator[datetime]:
        """Yield the starts of all buckets that have an instant before the window's end."""
        last = None
        for number, segment in enumerate(self.segments):
            is_last = number + 1 == len(self.segments)
            until = self._end if is_last else self.segments[number + 1].start - _SECOND
            first_index = self.interval.index(segment.start.replace(tzinfo=None) + segment.offset)
            last_index = self.interval.index(until.replace(tzinfo=None) + segment.offset)
            for index in range(first_index, last_index + 1):
                start = self.start(index, segment.offset_seconds)
                if last is None or start.astimezone(UTC) > last:
                    last = start.astimezone(UTC)
                    yield start


def _counted(amount: int, units: dict[str, int]) -> str:
    for unit, size in units.items():
        if amount % size == 0:
            count = amount // size
            return f"{count} {unit}" + ("s" if count != 1 else "")
    raise AssertionError("the smallest unit divides everything")
