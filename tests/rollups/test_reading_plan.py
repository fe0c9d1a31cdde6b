"""Plans: every instant of a window comes from one place, and from the right one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.backends.rollups.grid import grid_of
from tailrace.backends.rollups.plan import (
    RAW_RANGES_MAX,
    Level,
    Plan,
    has_whole_buckets,
    make_plan,
    wrong_ranges,
)
from tailrace.backends.rollups.ranges import MAX_US, MIN_US, Range, common, merged, us_of
from tailrace.pipeline.interval import Buckets, parse_interval

START = datetime(2024, 10, 20, tzinfo=UTC)
HOUR_US = 3_600_000_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
WIDTHS = ("5 minutes", "30 minutes", "hour", "2 hours", "7 hours", "day", "week", "month")

times = st.integers(0, 30 * 24 * 12).map(lambda n: us_of(START) + n * HOUR_US // 12 + n % 3)
ranges = st.tuples(times, times).map(lambda pair: Range(min(pair), max(pair) + 1))


def levels(zone: str, wrong: list[list[Range]]) -> list[Level]:
    widths = ("5 minutes", "hour", "day")
    return [
        Level(number, grid_of(parse_interval(width), zone), tuple(merged(bad)))
        for number, (width, bad) in enumerate(zip(widths, wrong, strict=True))
    ]


def check_covers(plan: Plan, window: Range) -> None:
    parts = [each for _, some in plan.ready for each in some] + list(plan.raw)
    assert merged(parts) == ([window] if window.low < window.high else [])
    assert sum(high - low for low, high in parts) == window.high - window.low


@given(
    ranges,
    st.lists(st.lists(ranges, max_size=5), min_size=3, max_size=3),
    st.sampled_from(ZONES),
)
def test_plans_cover_the_window_once(window: Range, wrong: list[list[Range]], zone: str) -> None:
    known = levels(zone, wrong)
    plan = make_plan(window, known)
    check_covers(plan, window)
    for level, good in plan.ready:
        assert not common(list(good), list(level.wrong))
        for low, high in good:
            assert level.grid.floor(low) == low
            assert level.grid.floor(high) == high
    for level in known:
        # What a level has is not read from rows.
        whole = level.grid.whole(window)
        if not level.wrong and whole.low < whole.high:
            assert not common([whole], list(plan.raw))


def test_windows_without_ends() -> None:
    now = us_of(START)
    known = levels("Europe/Berlin", [[Range(now, MAX_US)]] * 3)
    plan = make_plan(Range(MIN_US, MAX_US), known)
    check_covers(plan, Range(MIN_US, MAX_US))
    assert plan.raw == (Range(now, MAX_US),)
    assert plan.ready[0][1][0].low == MIN_US


def test_many_holes_are_read_as_fewer() -> None:
    at = us_of(START)
    holes = [Range(at + n * HOUR_US * 2, at + n * HOUR_US * 2 + 1) for n in range(500)]
    holes += [Range(at + 2_000 * HOUR_US, at + 2_000 * HOUR_US + 1)]
    level = Level(1, grid_of(parse_interval("hour"), "UTC"), tuple(holes))
    window = Range(at - 50 * HOUR_US, at + 3_000 * HOUR_US)
    plan = make_plan(window, [level])
    check_covers(plan, window)
    assert 1 < len(plan.raw) <= RAW_RANGES_MAX
    # The largest gap is kept: that before the last hole.
    assert plan.raw[-1] == Range(at + 2_000 * HOUR_US, at + 2_001 * HOUR_US)


def test_what_is_wrong_with_a_level() -> None:
    found = wrong_ranges([Range(50, 60)], floor_us=10, threshold_us=100)
    assert found == (Range(MIN_US, 10), Range(50, 60), Range(100, MAX_US))
    assert wrong_ranges([], MIN_US, MAX_US) == ()


@given(
    st.sampled_from(WIDTHS),
    st.sampled_from(ZONES),
    st.sampled_from(WIDTHS),
    st.sampled_from(ZONES),
)
@settings(deadline=None, max_examples=60)
def test_whole_buckets_lie_in_one_bucket_of_the_question(
    width: str, zone: str, interval: str, asked: str
) -> None:
    end = START + timedelta(days=20)  # over a change of the clock in Berlin and New York
    grid = grid_of(parse_interval(width), zone)
    question = parse_interval(interval)
    claimed = has_whole_buckets(grid, question, ZoneInfo(asked), START, end)
    step = timedelta(minutes=15)
    moments = [START + n * step for n in range((end - START) // step)]
    of_level = grid.bucket_of(us_of(each) for each in moments)
    buckets = Buckets(question, ZoneInfo(asked), START, end)
    places: dict[int, set[datetime]] = {}
    for each in moments:
        start = buckets.start_of(each).astimezone(UTC)
        places.setdefault(of_level[us_of(each)], set()).add(start)
    is_so = all(len(some) == 1 for some in places.values())
    assert is_so or not claimed
    if width == interval and zone == asked:
        assert claimed
