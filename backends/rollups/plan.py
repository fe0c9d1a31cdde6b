"""Which part of a window comes from which level, and which from the rows. Pure arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from tailrace.backends.reading.arguments import zone_is_fixed
from tailrace.pipeline.interval import ORIGIN, Interval, Segment, segments
from tailrace.pipeline.rollup import divides

from .grid import Grid
from .ranges import EVERYTHING, MAX_US, MIN_US, Range, common, merged, without

RAW_RANGES_MAX = 64
"""Ranges of rows in one question; beyond, those closest together are read as one."""
_DAY_SECONDS = 86_400
_SECOND = timedelta(seconds=1)
_ORIGIN = ORIGIN.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Level:
    """One level of a rollup, as it is now."""

    id: int
    grid: Grid
    wrong: tuple[Range, ...] = ()
    """Where its buckets are not what the rows say, or not there."""

    @property
    def seconds(self) -> int:
        """About how wide its buckets are."""
        return self.grid.interval.seconds or self.grid.interval.months * 30 * _DAY_SECONDS


@dataclass(frozen=True)
class Plan:
    """What comes from where; together, all of the window, and no instant twice."""

    ready: tuple[tuple[Level, tuple[Range, ...]], ...]
    raw: tuple[Range, ...]


def make_plan(window: Range, levels: Sequence[Level]) -> Plan:
    """Return where to read a window.

    Args:
        window: The whole of it.
        levels: Those that may be used, all of one rollup; each has whole buckets of the question.
    """
    left = [window]
    ready: list[tuple[Level, list[Range]]] = []
    for level in sorted(levels, key=lambda each: each.seconds, reverse=True):
        wrong = level.grid.widened(common(merged(level.wrong), [window]))
        whole = merged(level.grid.whole(each) for each in left)
        good = without(whole, wrong)
        if good:
            ready.append((level, good))
            left = without(left, good)
    raw = _fewer(left)
    return Plan(
        tuple((level, tuple(kept)) for level, good in ready if (kept := without(good, raw))),
        tuple(raw),
    )


def _fewer(ranges: list[Range]) -> list[Range]:
    """Join ranges over the smallest gaps until there are few enough."""
    gaps = sorted((after.low - before.high for before, after in itertools.pairwise(ranges)))
    if len(ranges) <= RAW_RANGES_MAX:
        return ranges
    widest = gaps[len(ranges) - RAW_RANGES_MAX - 1]
    joined = [ranges[0]]
    for each in ranges[1:]:
        if each.low - joined[-1].high <= widest:
            joined[-1] = Range(joined[-1].low, each.high)
        else:
            joined.append(each)
    return joined


def has_whole_buckets(
    grid: Grid, interval: Interval | None, zone: tzinfo, start: datetime, last: datetime
) -> bool:
    """Return whether no bucket of a grid lies in two buckets of a question.

    Args:
        grid: Of a level.
        interval: Of the question; ``None``: it has no buckets.
        zone: Of the question.
        start: First instant of the window, in UTC; of any, where the zone is fixed.
        last: Last instant.
    """
    if interval is None:
        return True
    width = grid.interval
    if _are_same(grid.zone, zone) and (width == interval or divides(width, interval)):
        return True
    if width.months:
        return False
    own, asked = _parts(grid.zone, start, last), _parts(zone, start, last)
    if len(own) > 1 and not width.tells_offsets_apart:
        return False
    common_width = math.gcd(_cuts_seconds(width, own), _cuts_seconds(interval, asked))
    return common_width % width.seconds == 0


def _are_same(one: tzinfo, other: tzinfo) -> bool:
    key = _key(one)
    return one == other or (key is not None and key == _key(other))


def _key(zone: tzinfo) -> str | None:
    # Asked for by its name, UTC is a ZoneInfo; a rollup's is datetime's own.
    return "UTC" if zone is UTC else getattr(zone, "key", None)


def _parts(zone: tzinfo, start: datetime, last: datetime) -> list[Segment]:
    if zone_is_fixed(zone):
        return [Segment(start, zone.utcoffset(None) or timedelta())]
    return segments(zone, start, last)


def _cuts_seconds(interval: Interval, parts: Sequence[Segment]) -> int:
    """Return the widest buckets, in UTC, that no edge of the interval's cuts."""
    changes = [(each.start - _ORIGIN) // _SECOND for each in parts[1:]]
    offsets = [each.offset_seconds for each in parts]
    return math.gcd(interval.seconds or _DAY_SECONDS, *offsets, *changes)


def wrong_ranges(log: Sequence[Range], floor_us: int, threshold_us: int) -> tuple[Range, ...]:
    """Return where a level cannot be used.

    Args:
        log: What is to be computed in it, or its source was written into.
        floor_us: Before it, the level's buckets are gone.
        threshold_us: From here on, they are not there yet.
    """
    edges = [Range(MIN_US, floor_us), Range(threshold_us, MAX_US)]
    return tuple(common(merged([*log, *edges]), [EVERYTHING]))
