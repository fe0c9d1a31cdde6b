"""What a bucket must hold, computed the slow and obvious way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tailrace.backends.rollups.partial import ROWS, Partial
from tailrace.backends.rollups.ranges import datetime_of


def bucket_label(time_us: int, zone: str, width: str) -> Any:
    """Return what names the bucket of a time: its wall clock cut off, and the offset if short."""
    local = datetime_of(time_us).astimezone(ZoneInfo(zone))
    wall = local.replace(tzinfo=None, fold=0, second=0, microsecond=0)
    day = wall.replace(hour=0, minute=0)
    if width == "1 minute":
        return wall, local.utcoffset()
    if width == "15 minutes":
        return wall.replace(minute=wall.minute // 15 * 15), local.utcoffset()
    if width == "1 hour":
        return wall.replace(minute=0), local.utcoffset()
    if width in ("2 hours", "6 hours"):
        hours = int(width[0])
        return wall.replace(minute=0, hour=wall.hour // hours * hours)
    if width == "1 day":
        return day
    if width == "1 week":
        return day - timedelta(days=day.weekday())
    if width == "1 month":
        return day.replace(day=1)
    assert width == "1 year"
    return day.replace(day=1, month=1)


def compare(found: Partial, values: Sequence[Any], place: Any) -> None:
    """Compare a partial with the values that it should be of."""
    assert found.count == len(values), f"{place}: counts {found.count}, there are {len(values)}"
    if place[2] == ROWS:
        return
    wholes = [each for each in values if type(each) is int]
    floats = [each for each in values if type(each) is float]
    assert (found.wholes, found.others) == (len(wholes), len(floats)), place
    assert found.whole_sum == sum(wholes), f"{place}: {found.whole_sum} is not {sum(wholes)}"
    if wholes:
        assert (found.whole_min, found.whole_max) == (min(wholes), max(wholes)), place
    if floats:
        extremes = [None if x is None else float(x) for x in (found.other_min, found.other_max)]
        assert extremes == [min(floats), max(floats)], place
        assert abs(float(found.other_sum) - sum(floats)) < 1e-9 * sum(map(abs, floats)) + 1e-12
    numbers = sorted([*wholes, *floats])
    assert found.sketch is not None
    assert found.sketch.count == len(numbers), f"{place}: the sketch has lost some"
    if numbers:
        low, high = found.sketch.percentile(0), found.sketch.percentile(100)
        for ours, right in ((low, numbers[0]), (high, numbers[-1])):
            assert abs((ours or 0.0) - right) <= 0.01 * abs(right), f"{place}: {ours} for {right}"
