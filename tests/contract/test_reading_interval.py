"""Intervals, and the buckets they cut time into."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.pipeline.interval import (
    Buckets,
    Interval,
    first_instant,
    parse_interval,
    parse_zone,
)

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clock moves by half an hour
HAVANA = ZoneInfo("America/Havana")  # its clock moves at midnight
APIA = ZoneInfo("Pacific/Apia")  # had no 2011-12-30
ZONES: list[tzinfo] = [BERLIN, NEW_YORK, LORD_HOWE, HAVANA, APIA, ZoneInfo("Asia/Kolkata")]
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("second", Interval(seconds=1)),
        ("minute", Interval(seconds=60)),
        ("hour", Interval(seconds=3600)),
        ("day", Interval(seconds=86_400)),
        ("week", Interval(seconds=604_800)),
        ("month", Interval(months=1)),
        ("year", Interval(months=12)),
        ("5 minutes", Interval(seconds=300)),
        (" 5 Minutes ", Interval(seconds=300)),
        ("1h", Interval(seconds=3600)),
        ("90s", Interval(seconds=90)),
        ("15min", Interval(seconds=900)),
        ("15m", Interval(seconds=900)),
        ("2 hrs", Interval(seconds=7200)),
        ("7d", Interval(seconds=604_800)),
        ("2w", Interval(seconds=1_209_600)),
        ("3mo", Interval(months=3)),
        ("2 years", Interval(months=24)),
        ("1y", Interval(months=12)),
        (timedelta(minutes=7), Interval(seconds=420)),
        (Interval(months=3), Interval(months=3)),
    ],
)
def test_every_form_is_read(written: object, meant: Interval) -> None:
    assert parse_interval(written) == meant  # type: ignore[arg-type]
    assert parse_interval(str(meant)) == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "fortnight",
        "5",
        5,
        5.0,
        True,
        None,
        [],
        "-1 hour",
        "0 minutes",
        "1.5h",
        "1h30m",
        "1M",
        "1 hour; DROP TABLE tailrace_event",
        "५ minutes",
        "1\x00h",
        "999999999 years",
        "9" * 50 + "s",
        timedelta(0),
        timedelta(seconds=-1),
        timedelta(milliseconds=1),
        timedelta.max,
    ],
)
def test_what_is_no_interval_raises(written: object) -> None:
    with pytest.raises(ValueError, match="interval"):
        parse_interval(written)  # type: ignore[arg-type]


def test_the_error_names_what_can_be_written() -> None:
    with pytest.raises(ValueError, match="month") as caught:
        parse_interval("fortnight")
    assert "fortnight" in str(caught.value)
    assert "'5 minutes'" in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_crashes_the_parsers(text: str) -> None:
    for parse in (parse_interval, parse_zone):
        try:
            parse(text)
        except ValueError as error:
            assert "write" in str(error) or "positive" in str(error)  # noqa: PT017 - may not raise


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc", "Europe", "a\0b"])
def test_an_unknown_zone_raises(name: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        parse_zone(name)


def test_months_have_no_fixed_length() -> None:
    assert parse_interval("90 days").as_timedelta() == timedelta(days=90)
    with pytest.raises(ValueError, match="fixed length"):
        parse_interval("month").as_timedelta()


def test_an_interval_is_positive_and_of_one_kind() -> None:
    for wrong in ({}, {"seconds": 1, "months": 1}, {"seconds": -1}):
        with pytest.raises(ValueError, match="interval"):
            Interval(**wrong)


def test_calendar_arithmetic() -> None:
    march_31 = datetime(2024, 3, 31, 12, tzinfo=BERLIN)
    month, day, hour = (parse_interval(unit) for unit in ("month", "day", "24 hours"))
    assert month.before(march_31, BERLIN) == datetime(2024, 2, 29, 12, tzinfo=BERLIN)
    # 2024-03-31 had 23 hours: a day before noon is noon, 24 hours before is 11 o'clock.
    april_1 = datetime(2024, 4, 1, 0, tzinfo=BERLIN)
    assert day.before(april_1, BERLIN) == datetime(2024, 3, 31, 0, tzinfo=BERLIN)
    assert day == hour
    assert parse_interval("23h").before(april_1, BERLIN) == day.before(april_1, BERLIN)
    december = datetime(2023, 12, 31, tzinfo=UTC)
    assert month.after(december) == datetime(2024, 1, 31, tzinfo=UTC)
    assert month.after(datetime(2023, 11, 30, tzinfo=UTC)) == datetime(2023, 12, 30, tzinfo=UTC)
    assert month.after(datetime(2023, 10, 31, tzinfo=UTC)) == datetime(2023, 11, 30, tzinfo=UTC)
    with pytest.raises(ValueError, match="naive"):
        day.before(datetime(2024, 1, 1))


def starts(interval: str, zone: tzinfo, start: datetime, end: datetime) -> list[str]:
    first, last = start.astimezone(UTC), end.astimezone(UTC) - MICROSECOND
    return [each.isoformat() for each in Buckets(parse_interval(interval), zone, first, last)]


def day_in(zone: tzinfo, *ymd: int) -> tuple[datetime, datetime]:
    begin = date(*ymd)
    midnights = [datetime(d.year, d.month, d.day) for d in (begin, begin + timedelta(days=1))]
    first, last = (first_instant(midnight, zone) for midnight in midnights)
    return first, last


def test_a_day_on_which_the_clock_is_put_back_has_25_hours() -> None:
    hours = starts("hour", BERLIN, *day_in(BERLIN, 2024, 10, 27))
    assert len(hours) == 25
    assert hours[2:4] == ["2024-10-27T02:00:00+02:00", "2024-10-27T02:00:00+01:00"]


def test_a_day_on_which_the_clock_is_put_forward_has_23_hours() -> None:
    hours = starts("hour", NEW_YORK, *day_in(NEW_YORK, 2024, 3, 10))
    assert len(hours) == 23
    assert hours[1:3] == ["2024-03-10T01:00:00-05:00", "2024-03-10T03:00:00-04:00"]


def test_half_an_hour_makes_short_buckets() -> None:
    autumn = starts("hour", LORD_HOWE, *day_in(LORD_HOWE, 2024, 4, 7))
    assert autumn[1:4] == [
        "2024-04-07T01:00:00+11:00",
        "2024-04-07T01:30:00+10:30",  # half an hour long
        "2024-04-07T02:00:00+10:30",
    ]
    spring = starts("hour", LORD_HOWE, *day_in(LORD_HOWE, 2024, 10, 6))
    assert spring[1:4] == [
        "2024-10-06T01:00:00+10:30",
        "2024-10-06T02:30:00+11:00",  # likewise
        "2024-10-06T03:00:00+11:00",
    ]


def test_a_day_whose_midnight_is_jumped_over_starts_at_one() -> None:
    window = (datetime(2024, 3, 9, 12, tzinfo=HAVANA), datetime(2024, 3, 11, 12, tzinfo=HAVANA))
    assert starts("day", HAVANA, *window) == [
        "2024-03-09T00:00:00-05:00",
        "2024-03-10T01:00:00-04:00",
        "2024-03-11T00:00:00-04:00",
    ]


def test_a_day_that_never_was_has_no_bucket() -> None:
    window = (datetime(2011, 12, 29, tzinfo=APIA), datetime(2012, 1, 1, tzinfo=APIA))
    assert [start[:10] for start in starts("day", APIA, *window)] == ["2011-12-29", "2011-12-31"]


def test_weeks_start_on_monday_months_and_years_on_the_first() -> None:
    window = (datetime(2023, 12, 28, tzinfo=BERLIN), datetime(2024, 1, 9, tzinfo=BERLIN))
    assert [start[:10] for start in starts("week", BERLIN, *window)] == [
        "2023-12-25",
        "2024-01-01",
        "2024-01-08",
    ]
    assert [start[:10] for start in starts("month", BERLIN, *window)] == [
        "2023-12-01",
        "2024-01-01",
    ]
    assert [start[:10] for start in starts("year", BERLIN, *window)] == ["2023-01-01", "2024-01-01"]
    assert [start[:10] for start in starts("3 months", BERLIN, *window)] == [
        "2023-10-01",
        "2024-01-01",
    ]


def test_a_zone_that_cannot_be_hashed_works() -> None:
    class Unhashable(tzinfo):
        __hash__ = None  # type: ignore[assignment]

        def utcoffset(self, moment: datetime | None) -> timedelta:
            return timedelta(hours=2)

        def dst(self, moment: datetime | None) -> timedelta:
            return timedelta()

        def tzname(self, moment: datetime | None) -> str:
            return "odd"

    window = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC))
    assert len(starts("day", Unhashable(), *window)) == 2


@st.composite
def windows(draw: st.DrawFn) -> tuple[tzinfo, datetime, datetime]:
    zone = draw(st.sampled_from([*ZONES, UTC, timezone(timedelta(hours=-3, minutes=-17))]))
    start = draw(st.datetimes(datetime(1975, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)))
    length = draw(st.timedeltas(MICROSECOND, timedelta(days=500)))
    return zone, start, start + length


@given(
    windows(),
    st.sampled_from(["5 minutes", "hour", "5 hours", "6 hours", "day", "3 days", "week", "month"]),
    st.floats(0, 1),
)
@settings(deadline=None, max_examples=150)
def test_an_instant_is_in_the_bucket_that_its_wall_clock_shows(
    window: tuple[tzinfo, datetime, datetime], interval: str, share: float
) -> None:
    zone, start, end = window
    width = parse_interval(interval)
    buckets = Buckets(width, zone, start, end - MICROSECOND)
    moment = min(start + (end - start) * share, end - MICROSECOND)
    found = buckets.start_of(moment)
    wall = moment.astimezone(zone).replace(tzinfo=None)
    shown = width.wall_start(width.index(wall))
    assert found.astimezone(UTC) <= moment
    assert found.tzinfo is zone
    # Its start is shown by the clock, or the clock jumped over it at that very instant.
    before = (found.astimezone(UTC) - timedelta(seconds=1)).astimezone(zone)
    assert found.replace(tzinfo=None, fold=0) == shown or before.utcoffset() != found.utcoffset()
    assert width.index(found.replace(tzinfo=None)) == width.index(shown)


@given(windows(), st.sampled_from(["6 hours", "hour", "day", "week", "month"]))
@settings(deadline=None, max_examples=60)
def test_the_buckets_of_a_window_ascend_and_cover_it(
    window: tuple[tzinfo, datetime, datetime], interval: str
) -> None:
    zone, start, end = window
    end = min(end, start + timedelta(days=40)) if interval == "hour" else end
    buckets = Buckets(parse_interval(interval), zone, start, end - MICROSECOND)
    found = [each.astimezone(UTC) for each in buckets]
    assert found == sorted(set(found))
    assert found[0] <= start
    assert found[-1] < end
    for moment in (start, end - MICROSECOND, start + (end - start) / 2):
        assert buckets.start_of(moment).astimezone(UTC) in found
