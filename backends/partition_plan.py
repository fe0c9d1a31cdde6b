"""Which time partitions there are, and which there should be. Pure arithmetic, all in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

UNITS = ("day", "week", "month")


class Partition(NamedTuple):
    """A partition of ``tailrace_event``, as the catalog shows it."""

    name: str
    is_default: bool
    lower: datetime | None
    upper: datetime | None
    is_detach_pending: bool
    rows: int
    """Estimated; -1 where the server has not counted yet."""
    size_bytes: int


class Span(NamedTuple):
    """A partition that should be: half-open."""

    name: str
    lower: datetime
    upper: datetime


def bucket_start(moment: datetime, unit: str) -> datetime:
    """Return the start of the UTC day, week (Monday) or month that holds ``moment``."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


def next_start(start: datetime, unit: str) -> datetime:
    """Return the start of the bucket after the one that starts at ``start``."""
    # A day, 7 days or 31 days on, it is some moment of the next bucket.
    days = {"day": 1, "week": 7, "month": 31}[unit]
    return bucket_start(start + timedelta(days=days), unit)


def missing(existing: Sequence[Partition], first: datetime, unit: str, count: int) -> list[Span]:
    """Return what to make so that ``count`` buckets from ``first`` on have partitions.

    Where partitions of another unit reach into a bucket, only the rest after them is made.
    """
    spans = []
    lower = bucket_start(first, unit)
    for _ in range(count):
        upper = next_start(lower, unit)
        start = max([lower, *_ends_of_overlaps(existing, lower, upper)])
        if start < upper:
            spans.append(Span(f"tailrace_event_{unit[0]}{start:%Y%m%d}", start, upper))
        lower = upper
    return spans


def _ends_of_overlaps(
    existing: Sequence[Partition], lower: datetime, upper: datetime
) -> list[datetime]:
    return [
        partition.upper
        for partition in existing
        if partition.lower is not None
        and partition.upper is not None
        and partition.lower < upper
        and partition.upper > lower
    ]
