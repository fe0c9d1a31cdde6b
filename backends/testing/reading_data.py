"""Events and questions for the suite, made by Hypothesis."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tailrace.pipeline.event import INT_MAX, INT_MIN, Event, ns_from_datetime

from .reading_oracle import MICROSECOND, Question

ZONES = [
    UTC,
    *map(ZoneInfo, ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")),
]
INTERVALS = ("5 minutes", "hour", "6 hours", "day", "week", "month", "year")
FUNCTIONS = ("avg", "min", "max", "sum", "count", "p50", "p75", "p90", "p95", "p99")
HARD_NAMES = (
    "plain",
    "two words",
    "a.b",
    "$",
    "$.a",
    "$.*",
    "%s",
    "%(x)s",
    "100%",
    "[0]",
    "a[0]",
    "0",
    '"',
    'a"b',
    "'",
    "a'b",
    "\\",
    "a\\b",
    '\\"',
    "a\tb",
    "Größe",
    "数据",
    "\U0001f30a",
    "a/b",
    "{}",
    "-- x",
    "#",
    "@",
    "*",
    "**",
    " lead",
    "trail ",
    "ID",
    "id",
    "null",
    "\x01",
    "last",
    "$[last]",
    "-x",
    "a-b",
    "e\u0301",
    "é",
)
"""Names that a JSON path, a format string or a collation could trip over."""

MOMENTS = [
    # Just before and after clocks change, and where years, months and weeks do.
    datetime(2024, 3, 31, 1, tzinfo=UTC),
    datetime(2024, 10, 27, 1, tzinfo=UTC),
    datetime(2024, 3, 10, 7, tzinfo=UTC),
    datetime(2024, 11, 3, 6, tzinfo=UTC),
    datetime(2024, 4, 6, 15, tzinfo=UTC),
    datetime(2024, 10, 5, 15, 30, tzinfo=UTC),
    datetime(2023, 12, 31, 23, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, tzinfo=UTC),
]
_numbers = itertools.count(1)


def make(
    measurement: str,
    time: datetime,
    tags: dict[str, str],
    fields: dict[str, Any],
    trace: Any = None,
) -> Event:
    """Return an event with an id of its own."""
    number = next(_numbers)
    return Event(
        measurement=measurement,
        time_ns=ns_from_datetime(time),
        tags=tags,
        fields=fields,
        trace_id=trace,
        # Ids that do not ascend, with bytes of all sizes.
        id=bytes([number * 37 % 256, number * 101 % 256]) + b"\xffid" + number.to_bytes(11, "big"),
    )


_whole = st.integers(-20, 20) | st.sampled_from([INT_MAX, INT_MIN, 2**53 + 1, -(2**40)])
_floats = st.floats(-1e6, 1e6) | st.sampled_from([0.1, 2.5, -0.5, 3.0, 1e-9, 1e15])
_others = st.sampled_from([None, True, False, "", "12", "text"])


@st.composite
def values(draw: st.DrawFn) -> st.SearchStrategy[Any]:
    """Return a kind of field: of integers, of floats, of both, or with anything in it."""
    kinds = [_whole, _floats, _whole | _floats, _whole | _others, _floats | _others, _others]
    return draw(st.sampled_from(kinds))


@st.composite
def events(draw: st.DrawFn, measurement: str) -> tuple[list[Event], Question]:
    """Return up to 20 events near some moment, and a question about them."""
    middle = draw(st.sampled_from(MOMENTS))
    spread = draw(st.sampled_from([timedelta(hours=3), timedelta(days=2), timedelta(days=40)]))
    made = []
    field_values = draw(values())
    # Many times alike, and many at the very edge of buckets.
    step = draw(st.sampled_from([MICROSECOND * 999_983, timedelta(minutes=30)]))
    steps = spread // step
    for _ in range(draw(st.integers(0, 20))):
        time = middle + step * draw(st.integers(-steps, steps))
        tags = draw(
            st.dictionaries(
                st.sampled_from(["route", "Route"]), st.sampled_from(["a", "A", "a ", "é", ""])
            )
        )
        fields = {"v": draw(field_values)} if draw(st.integers(0, 9)) else {}
        made.append(make(measurement, time, tags, fields))
    return made, draw(questions(middle, spread, step))


@st.composite
def questions(draw: st.DrawFn, middle: datetime, spread: timedelta, step: timedelta) -> Question:
    """Return a question about events near a moment."""
    interval = draw(st.none() | st.sampled_from(INTERVALS))
    steps = spread // step
    ends = sorted(draw(st.sets(st.integers(-steps, steps), min_size=2, max_size=2)))
    start, end = (middle + step * each for each in ends)
    window = draw(st.integers(0, 5))
    fill = None
    if interval and window > 1 and (interval != "5 minutes" or spread < timedelta(days=3)):
        fill = draw(st.sampled_from([None, "null", 0, "previous"]))
    tag_values = st.sampled_from(["a", "A", "a ", "é", "no such", None])
    function = draw(st.sampled_from(FUNCTIONS))
    return Question(
        field=None if function == "count" and draw(st.booleans()) else "v",
        function=function,
        start=start if window not in (0, 1) else None,
        end=end if window != 0 else None,
        interval=interval,
        group_by=tuple(draw(st.sampled_from([(), (), ("route",), ("route", "Route"), ("nix",)]))),
        tags=draw(
            st.just({})
            | st.dictionaries(
                st.sampled_from(["route", "Route"]),
                tag_values | st.lists(tag_values, max_size=3),
                max_size=2,
            )
        ),
        zone=draw(st.sampled_from(ZONES)),
        fill=fill,
    )
