from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.pipeline.event import Event, datetime_from_ns, ns_from_datetime

MOMENTS = st.datetimes(
    datetime(1678, 1, 1), datetime(2262, 1, 1), timezones=st.sampled_from([UTC, timezone.max])
)


@given(MOMENTS)
def test_times_are_exact_to_the_microsecond(moment: datetime) -> None:
    time_ns = ns_from_datetime(moment)
    assert time_ns % 1000 == 0
    assert datetime_from_ns(time_ns) == moment
    assert datetime_from_ns(time_ns + 999) == moment, "digits below a microsecond are cut off"
    assert datetime_from_ns(time_ns).tzinfo is UTC


def test_a_naive_time_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"naive datetime 2024.*django.utils.timezone.now\(\)"):
        ns_from_datetime(datetime(2024, 1, 1))


@pytest.mark.parametrize("year", [1, 1677, 2263, 9999])
def test_a_time_beyond_64_bits_is_refused(year: int) -> None:
    with pytest.raises(ValueError, match="1677 to 2262"):
        ns_from_datetime(datetime(year, 1, 1, tzinfo=timezone(timedelta(hours=1))))


def test_as_dict_is_what_a_reader_needs() -> None:
    event = Event("m", 1_000, {"t": "v"}, {"n": 1}, "trace", None, bytes(range(16)))
    assert event.as_dict() == {
        "measurement": "m",
        "time": datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        "tags": {"t": "v"},
        "fields": {"n": 1},
        "trace_id": "trace",
        "id": str(uuid.UUID(bytes=bytes(range(16)))),
    }
    assert Event("m", 0, {}, {}).as_dict()["id"] is None
