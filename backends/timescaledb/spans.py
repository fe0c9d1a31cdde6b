"""Stretches of time: which a continuous aggregate knows, and which it does not. Pure arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tailrace.backends.reading.query import Window
from tailrace.pipeline.interval import ORIGIN

SPANS_MAX = 64
"""Stretches of time in one query; beyond, those closest together are taken as one."""

SECOND_US = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ORIGIN_US = (ORIGIN.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
MIN_US = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
MAX_US = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


class Span(NamedTuple):
    """A half-open stretch of time, in microseconds since 1970."""

    start: int
    end: int


def raw_spans(whole: Span, width: int, stale: Sequence[Span]) -> list[Span]:
    """Return what must be computed from the readings, in order, apart from each other.

    Args:
        whole: The window.
        width: Of a bucket, in microseconds.
        stale: What the continuous aggregate does not know.
    """
    spans = [Span(_floor(low, width), _ceil(high, width)) for low, high in stale]
    if whole.start > MIN_US:
        spans.append(Span(whole.start, _ceil(whole.start, width)))
    if whole.end < MAX_US:
        spans.append(Span(_floor(whole.end, width), whole.end))
    merged: list[Span] = []
    for low, high in sorted(spans):
        start, end = max(low, whole.start), min(high, whole.end)
        if start >= end:
            continue
        if merged and start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(end, merged[-1].end))
        else:
            merged.append(Span(start, end))
    return _fewer(merged)


def _fewer(spans: list[Span]) -> list[Span]:
    """Join spans over the smallest gaps until there are few enough."""
    between = sorted(
        (after.start - before.end for before, after in itertools.pairwise(spans)),
        reverse=True,
    )
    if len(between) < SPANS_MAX:
        return spans
    joined = [spans[0]]
    for span in spans[1:]:
        if span.start - joined[-1].end > between[SPANS_MAX - 1]:
            joined.append(span)
        else:
            joined[-1] = Span(joined[-1].start, span.end)
    return joined


def gaps(whole: Span, spans: Sequence[Span]) -> list[Span]:
    """Return what is left of the window between spans."""
    found, at = [], whole.start
    for span in spans:
        if at < span.start:
            found.append(Span(at, span.start))
        at = span.end
    if at < whole.end:
        found.append(Span(at, whole.end))
    return found


def window_span(window: Window) -> Span:
    """Return a window; where it has no bound, as far as datetimes go."""
    start = MIN_US if window.start is None else as_us(window.start)
    return Span(start, MAX_US if window.end is None else as_us(window.end))


def as_us(moment: datetime) -> int:
    """Return a time in microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def _floor(value: int, width: int) -> int:
    return (value - ORIGIN_US) // width * width + ORIGIN_US


def _ceil(value: int, width: int) -> int:
    return -((ORIGIN_US - value) // width) * width + ORIGIN_US
