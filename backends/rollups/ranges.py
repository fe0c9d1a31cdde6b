"""Sets of half-open ranges of time, in microseconds since 1970 (UTC)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

MIN_US, MAX_US = -(2**63), 2**63 - 1
"""Before and after all times. What databases hold as a 64-bit integer."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
FIRST_US = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST_US = (datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""What a datetime can hold in any time zone."""


class Range(NamedTuple):
    """From ``low`` (included) to ``high`` (not included)."""

    low: int
    high: int


EVERYTHING = Range(MIN_US, MAX_US)


def us_of(moment: datetime) -> int:
    """Return an aware datetime in microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def datetime_of(time_us: int) -> datetime:
    """Return the UTC datetime of a time; the nearest one that there is."""
    return _EPOCH + timedelta(microseconds=min(max(time_us, FIRST_US), LAST_US))


def shown(time_us: int) -> str:
    """Return a time as people read it."""
    if time_us <= FIRST_US:
        return "the beginning"
    return "the end" if time_us >= LAST_US else datetime_of(time_us).isoformat()


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Return the same set as few ranges, ascending; those that touch become one."""
    found: list[Range] = []
    for low, high in sorted(ranges):
        if low >= high:
            continue
        if found and low <= found[-1].high:
            found[-1] = Range(found[-1].low, max(high, found[-1].high))
        else:
            found.append(Range(low, high))
    return found


def common(ranges: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """Return what two sets have in common. Both are as :func:`merged` returns them."""
    found = []
    ours, theirs = 0, 0
    while ours < len(ranges) and theirs < len(others):
        low = max(ranges[ours].low, others[theirs].low)
        high = min(ranges[ours].high, others[theirs].high)
        if low < high:
            found.append(Range(low, high))
        if ranges[ours].high < others[theirs].high:
            ours += 1
        else:
            theirs += 1
    return found


def without(ranges: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """Return what of ``ranges`` is not in ``others``. Both are as :func:`merged` returns them."""
    return common(ranges, _gaps(others))


def overlapping(ranges: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """Return those of ``ranges``, whole, that have something in common with ``others``."""
    return [each for each in ranges if common([each], others)]


def covering(times_us: Iterable[int], gap_us: int, most: int) -> list[Range]:
    """Return ranges that hold all of some times, and little else.

    Args:
        times_us: The times.
        gap_us: Times that are less than this apart may share a range. Where that is the width
            of a bucket, the ranges touch no bucket that none of the times is in.
        most: How many ranges there may be; with too many, larger gaps are covered, too.
    """
    ordered = sorted(set(times_us))
    while True:
        found: list[Range] = []
        for time_us in ordered:
            if found and time_us - found[-1].high < gap_us:
                found[-1] = Range(found[-1].low, time_us + 1)
            else:
                found.append(Range(time_us, time_us + 1))
        if len(found) <= most:
            return found
        gap_us *= 2


def _gaps(ranges: Sequence[Range]) -> list[Range]:
    """Return everything that is not in ``ranges``."""
    edges = [MIN_US, *(edge for each in ranges for edge in each), MAX_US]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [Range(low, high) for low, high in pairs if low < high]
