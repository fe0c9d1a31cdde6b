"""Times in files."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.pipeline.event import INT_MAX, INT_MIN
from tailrace.pipeline.interchange.drafts import BadRecord
from tailrace.pipeline.interchange.times import TimeReader, iso_from_ns

BERLIN = ZoneInfo("Europe/Berlin")


@given(st.integers(INT_MIN, INT_MAX))
def test_iso_round_trip(time_ns: int) -> None:
    assert TimeReader().read(iso_from_ns(time_ns)) == time_ns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01 00:00:01.5+00:00", 1_500_000_000),
        ("1970-01-01T01:00:00,000000001+0100", 1),
        ("1970-01-01T00:00Z", 0),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("1970-01-01T05:30:00+05:30", 0),
        (" 1970-01-01T00:00:00z ", 0),
    ],
)
def test_iso(text: str, expected: int) -> None:
    assert TimeReader().read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-01-01T24:01:00Z",
        "2026-01-01T00:00:61Z", "2026-01-01T00:00:00.1234567890Z", "2026-01-01T00:00:00+25:00",
        "1676-01-01T00:00:00Z", "2263-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "٢٠٢٦-٠١-٠١",
        "2026-01-01T00:00:00", "2026-01-01", 5, None, True, "x" * 10_000,
    ],
)  # fmt: skip
def test_no_time(text: object) -> None:
    with pytest.raises(BadRecord):
        TimeReader().read(text)


def test_naive_times_need_a_zone() -> None:
    with pytest.raises(BadRecord, match="name its time zone"):
        TimeReader().read("2026-07-01T12:00:00")
    reader = TimeReader(zone=BERLIN)
    assert reader.read("2026-07-01T12:00:00") == TimeReader().read("2026-07-01T10:00:00Z")
    assert reader.read("2026-07-01") == TimeReader().read("2026-06-30T22:00:00Z")
    # An offset wins; of an hour that is there twice, the first is meant.
    assert reader.read("2026-07-01T12:00:00Z") == TimeReader().read("2026-07-01T12:00:00Z")
    assert reader.read("2026-10-25T02:30:00") == TimeReader().read("2026-10-25T00:30:00Z")


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("s", 1_700_000_000, 1_700_000_000_000_000_000),
        ("s", "1700000000.123456789", 1_700_000_000_123_456_789),
        ("s", 1_700_000_000.5, 1_700_000_000_500_000_000),
        ("s", "1.7e9", 1_700_000_000_000_000_000),
        ("ms", "1700000000123", 1_700_000_000_123_000_000),
        ("ms", -1, -1_000_000),
        ("us", 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        ("ns", INT_MAX, INT_MAX),
        ("ns", str(INT_MIN), INT_MIN),
    ],
)
def test_epochs(form: str, value: object, expected: int) -> None:
    assert TimeReader(form).read(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "x", "1e99", "9" * 60, "nan", "inf", True, None, float("nan"), float("inf"), 2**70, "1_0"],
)
def test_no_epoch(value: object) -> None:
    with pytest.raises(BadRecord):
        TimeReader("s").read(value)


def test_unknown_form() -> None:
    with pytest.raises(ValueError, match="there are iso, s, ms, us, ns"):
        TimeReader("minutes")
