"""Functions of fields, in buckets and groups: against an oracle, and case by case."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailrace.pipeline.event import INT_MAX, INT_MIN, Event

from .reading_data import FUNCTIONS, events, make
from .reading_oracle import Question, assert_same, expected
from .reading_tools import NOON, ReaderTools, other_threads

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
HOUR = timedelta(hours=1)


class AggregateContract(ReaderTools):
    """Tests of :meth:`Reader.aggregate` and :meth:`Reader.downsample`."""

    def test_answers_are_those_of_the_oracle(self) -> None:
        backend = self.open_shard()
        numbers = itertools.count()

        @given(st.data())
        @settings(
            max_examples=self.reading_examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def check(data: st.DataObject) -> None:
            measurement = f"oracle {next(numbers)}"
            made, question = data.draw(events(measurement))
            self.add(backend, made)
            self.check_answer(backend, measurement, made, question)

        with other_threads():
            check()

    def check_answer(
        self, backend: Any, measurement: str, made: list[Event], question: Question
    ) -> None:
        """Check one answer against the oracle's."""
        plain: list[Any] = [each.fields.get("v") for each in made]
        magnitude = sum(abs(each) for each in plain if type(each) in (int, float))
        found = question.ask(backend, measurement)
        assert_same(found, expected(made, question), float(magnitude), (question, made))

    def test_every_function(self) -> None:
        backend = self.of_values(*range(1, 21))
        right = {
            "avg": 10.5,
            "min": 1,
            "max": 20,
            "sum": 210,
            "count": 20,
            "p50": 10.5,
            "p75": 15.25,
            "p90": 18.1,
            "p95": 19.05,
            "p99": 19.81,
        }
        assert set(right) == set(FUNCTIONS)
        for function, value in right.items():
            found = backend.aggregate("m", "v", function)["result"]
            assert abs(found - value) < 1e-9, (function, found)
            assert type(found) is type(value), (function, found)
        assert backend.aggregate("m", "v") == {"result": 10.5}

    def test_nothing_has_no_result(self) -> None:
        backend = self.of_values("text", True, None)
        for function in FUNCTIONS:
            nothing = 0 if function == "count" else None
            assert backend.aggregate("none", "v", function) == {"result": nothing}
            assert backend.aggregate("none", "v", function, interval="day") == []
            assert backend.aggregate("none", "v", function, group_by=["a"]) == []
            assert backend.aggregate("m", "missing", function) == {"result": nothing}
            if function != "count":
                assert backend.aggregate("m", "v", function) == {"result": None}
                assert backend.aggregate("m", "v", function, interval="day", tz=BERLIN) == []

    def test_only_numbers_count_and_booleans_are_none(self) -> None:
        backend = self.of_values(2, "100", True, None, 4, False, "text")
        assert backend.aggregate("m", "v", "sum") == {"result": 6}
        assert backend.aggregate("m", "v", "p50") == {"result": 3.0}
        assert backend.aggregate("m", "v", "max") == {"result": 4}

    def test_count_counts_what_is_not_none(self) -> None:
        backend = self.of_values(2, "100", True, None, 4.5)
        self.add(backend, [make("m", NOON, {}, {"other": 1})])
        assert backend.aggregate("m", "v", "count") == {"result": 4}
        assert backend.aggregate("m", None, "count") == {"result": 6}

    def test_integers_stay_integers(self) -> None:
        """However large: they become floats nowhere on the way."""
        backend = self.of_values(INT_MAX, INT_MAX - 2, 3)
        for function, right in (
            ("max", INT_MAX),
            ("min", 3),
            ("sum", 2 * INT_MAX + 1),
            ("count", 3),
        ):
            found = backend.aggregate("m", "v", function)["result"]
            assert found == right, function
            assert type(found) is int
            (row,) = backend.downsample("m", "v", "month", function, tz=BERLIN)
            assert (row["result"], type(row["result"])) == (right, int)

    def test_sums_of_negative_integers_are_exact(self) -> None:
        backend = self.of_values(*[INT_MIN] * 5, -1, -(2**32), -(2**32) - 1)
        assert backend.aggregate("m", "v", "sum") == {"result": 5 * INT_MIN - 2**33 - 2}

    def test_one_float_makes_a_float(self) -> None:
        backend = self.of_values(1, 2.0)
        for function, right in (("min", 1.0), ("max", 2.0), ("sum", 3.0)):
            found = backend.aggregate("m", "v", function)["result"]
            assert (found, type(found)) == (right, float)

    def test_floats_that_json_writes_with_an_exponent(self) -> None:
        for value in (1e-9, -2.5e-7, 5e-324, 1e22, -1.7976931348623157e308):
            backend = self.of_values(value)
            for function in ("min", "max", "sum", "avg", "p50"):
                found = backend.aggregate("m", "v", function)["result"]
                assert type(found) is float, (value, function)
                assert math.isclose(found, value, rel_tol=1e-14), (value, function, found)

    def test_a_sum_beyond_what_a_double_holds_on_the_way(self) -> None:
        backend = self.of_values(1.5e300, -1.5e300, 2.5)
        assert abs(backend.aggregate("m", "v", "sum")["result"]) <= 2.5

    def test_a_scalar_is_of_all_series(self) -> None:
        """Not of the first one."""
        backend = self.stored(
            *(make("m", NOON, {"device_id": str(n), "x": "y" * n}, {"v": n}) for n in range(5))
        )
        assert backend.aggregate("m", "v", "sum") == {"result": 10}
        assert backend.aggregate("m", "v", "avg") == {"result": 2.0}
        assert backend.aggregate("m", "v", "sum", device=3) == {"result": 3}
        (row,) = backend.downsample("m", "v", "year", "sum")
        assert row["result"] == 10

    def test_no_start_means_from_the_beginning(self) -> None:
        """Not the last 30 days."""
        times = [datetime(1970, 1, 2, tzinfo=UTC), datetime(2001, 5, 5, tzinfo=UTC), NOON]
        backend = self.stored(*(make("m", time, {}, {"v": 1}) for time in times))
        assert backend.aggregate("m", "v", "sum") == {"result": 3}
        assert len(backend.downsample("m", "v", "month", "sum", tz=NEW_YORK)) == 3
        assert len(backend.downsample("m", "v", "month", "sum")) == 3

    def test_buckets_are_stamped_with_their_start(self) -> None:
        """Not with their end."""
        times = [NOON, NOON + HOUR - timedelta(microseconds=1), NOON + HOUR]
        backend = self.stored(*(make("m", time, {}, {"v": 1}) for time in times))
        assert backend.downsample("m", "v", "1h", "sum") == [
            {"bucket": NOON, "result": 2},
            {"bucket": NOON + HOUR, "result": 1},
        ]

    def test_all_forms_of_an_interval_are_one(self) -> None:
        backend = self.stored(
            *(make("m", NOON + timedelta(minutes=n), {}, {"v": n}) for n in range(0, 200, 7))
        )
        hours = backend.downsample("m", "v", "hour", "sum")
        for interval in ("1h", "60 minutes", "3600s", "1 Hour", timedelta(hours=1)):
            assert backend.aggregate("m", "v", "sum", interval=interval) == hours
        assert len(hours) == 4
        assert sum(row["result"] for row in hours) == sum(range(0, 200, 7))

    def test_odd_intervals_are_aligned_alike(self) -> None:
        times = [NOON + timedelta(hours=n * 5) for n in range(60)]
        backend = self.stored(*(make("m", time, {}, {"v": 1}) for time in times))
        for interval, width in (
            ("7 hours", timedelta(hours=7)),
            ("3 days", timedelta(days=3)),
            ("2 weeks", timedelta(weeks=2)),
            ("97s", timedelta(seconds=97)),
        ):
            origin = datetime(2000, 1, 3, tzinfo=UTC)
            right = sorted({origin + (time - origin) // width * width for time in times})
            assert [row["bucket"] for row in backend.downsample("m", "v", interval)] == right
        (quarter,) = backend.downsample("m", "v", "3 months")
        assert quarter["bucket"] == datetime(2024, 4, 1, tzinfo=UTC)

    def test_hours_of_the_day_on_which_a_clock_is_put_back(self) -> None:
        rows = self._half_hours(datetime(2024, 10, 26, 22, tzinfo=UTC), 50, BERLIN, "hour")
        assert len(rows) == 25
        assert [row["bucket"].isoformat() for row in rows[1:5]] == [
            "2024-10-27T01:00:00+02:00",
            "2024-10-27T02:00:00+02:00",
            "2024-10-27T02:00:00+01:00",
            "2024-10-27T03:00:00+01:00",
        ]
        assert {row["result"] for row in rows} == {2}

    def test_hours_of_the_day_on_which_a_clock_is_put_forward(self) -> None:
        rows = self._half_hours(datetime(2024, 3, 10, 5, tzinfo=UTC), 46, NEW_YORK, "hour")
        assert len(rows) == 23
        assert [row["bucket"].isoformat() for row in rows[1:3]] == [
            "2024-03-10T01:00:00-05:00",
            "2024-03-10T03:00:00-04:00",
        ]

    def test_a_clock_that_moves_by_half_an_hour(self) -> None:
        rows = self._half_hours(datetime(2024, 4, 6, 13, tzinfo=UTC), 49, LORD_HOWE, "hour")
        assert [(row["bucket"].isoformat(), row["result"]) for row in rows[1:4]] == [
            ("2024-04-07T01:00:00+11:00", 2),
            ("2024-04-07T01:30:00+10:30", 1),
            ("2024-04-07T02:00:00+10:30", 2),
        ]

    def test_days_have_as_many_hours_as_they_have(self) -> None:
        for zone, first, hours in (
            (BERLIN, datetime(2024, 3, 30, 23, tzinfo=UTC), 23),
            (BERLIN, datetime(2024, 10, 26, 22, tzinfo=UTC), 25),
            (LORD_HOWE, datetime(2024, 4, 6, 13, tzinfo=UTC), 24.5),
        ):
            rows = self._half_hours(first, int(hours * 2) + 1, zone, "day")
            assert [row["result"] for row in rows] == [int(hours * 2), 1]
            assert rows[0]["bucket"] == first
            assert rows[0]["bucket"].tzinfo is zone
            assert rows[0]["bucket"].hour == 0

    def _half_hours(self, first: datetime, count: int, zone: Any, interval: str) -> Any:
        times = [first + n * timedelta(minutes=30) for n in range(count)]
        backend = self.stored(*(make("m", time, {}, {"v": 1}) for time in times))
        return backend.downsample("m", "v", interval, "sum", tz=zone)

    def test_a_zone_may_be_a_name(self) -> None:
        backend = self.of_values(1)
        named = backend.downsample("m", "v", "day", tz="Europe/Berlin")
        assert named == backend.downsample("m", "v", "day", tz=BERLIN)
        assert named[0]["bucket"].isoformat() == "2024-05-15T00:00:00+02:00"

    def test_weeks_start_on_monday_also_around_new_year(self) -> None:
        times = [datetime(2023, 12, day, 23, 30, tzinfo=UTC) for day in (24, 30, 31)]
        backend = self.stored(*(make("m", time, {}, {"v": 1}) for time in times))
        assert [row["bucket"].day for row in backend.downsample("m", "v", "week")] == [18, 25]
        berlin = backend.downsample("m", "v", "week", "sum", tz=BERLIN)
        assert [(row["bucket"].date().isoformat(), row["result"]) for row in berlin] == [
            ("2023-12-25", 2),
            ("2024-01-01", 1),
        ]

    def test_months_and_years_start_on_the_first(self) -> None:
        times = [datetime(2023, 12, 31, 23, 30, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)]
        backend = self.stored(*(make("m", time, {}, {"v": 1}) for time in times))
        months = [row["bucket"].month for row in backend.downsample("m", "v", "month", tz=BERLIN)]
        assert months == [1, 2]
        years = backend.downsample("m", "v", "year", "sum", tz=NEW_YORK)
        assert [(row["bucket"].year, row["result"]) for row in years] == [(2023, 1), (2024, 1)]

    def test_times_before_1970(self) -> None:
        times = [
            datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(1700, 1, 1, tzinfo=UTC),
        ]
        backend = self.stored(*(make("m", time, {}, {"v": 1}) for time in times))
        for interval in ("97s", "day", "week", "month"):
            first, last = (row["bucket"] for row in backend.downsample("m", "v", interval))
            assert first <= times[1] < first + timedelta(days=31)
            assert last <= times[0] < last + timedelta(days=31)

    def test_groups(self) -> None:
        tags = [{"a": "x"}, {"a": "x", "b": "y"}, {"a": "X"}, {"a": "x "}, {}]
        backend = self.stored(*(make("m", NOON, each, {"v": 1}) for each in tags))
        assert backend.aggregate("m", "v", "sum", group_by=["a"]) == [
            {"result": 1, "a": None},
            {"result": 1, "a": "X"},
            {"result": 2, "a": "x"},
            {"result": 1, "a": "x "},
        ]
        rows = backend.aggregate("m", "v", "p50", interval="day", group_by=["a", "b"])
        assert [list(row) for row in rows] == [["bucket", "result", "a", "b"]] * 5
        assert [(row["a"], row["b"]) for row in rows] == [
            *((None, None), ("X", None), ("x", None), ("x", "y"), ("x ", None))
        ]

    def test_filling(self) -> None:
        start, end = NOON, NOON + 5 * HOUR
        backend = self.stored(
            make("m", NOON + HOUR, {"a": "x"}, {"v": 3}), make("m", end, {"a": "x"}, {"v": 9})
        )

        def filled(fill: Any) -> list[Any]:
            rows = backend.downsample("m", "v", "hour", "max", start=start, end=end, fill=fill)
            if fill is not None:
                assert [row["bucket"] for row in rows] == [start + n * HOUR for n in range(5)]
            return [row["result"] for row in rows]

        assert filled(None) == [3]
        assert filled("null") == [None, 3, None, None, None]
        assert filled(0) == [0, 3, 0, 0, 0]
        assert filled("previous") == [None, 3, 3, 3, 3]

    def test_filling_each_group_and_no_group(self) -> None:
        backend = self.stored(
            make("m", NOON, {"a": "x"}, {"v": 3}), make("m", NOON + HOUR, {}, {"v": 4})
        )
        window = {"start": NOON, "end": NOON + 2 * HOUR, "interval": "hour", "fill": "previous"}
        rows = backend.aggregate("m", "v", "sum", group_by=["a"], **window)
        assert [(row["bucket"], row["a"], row["result"]) for row in rows] == [
            (NOON, None, None),
            (NOON, "x", 3),
            (NOON + HOUR, None, 4),
            (NOON + HOUR, "x", 3),
        ]
        assert backend.aggregate("none", "v", "sum", group_by=["a"], **window) == []
        assert len(backend.aggregate("none", "v", "sum", **window)) == 2

    def test_filling_the_day_on_which_a_clock_is_put_back(self) -> None:
        backend = self.of_values(1)
        start, end = (datetime(2024, 10, day, tzinfo=BERLIN) for day in (27, 28))
        rows = backend.downsample(
            "m", "v", "hour", "count", start=start, end=end, tz=BERLIN, fill=0
        )
        assert len(rows) == 25
        assert len({row["bucket"].astimezone(UTC) for row in rows}) == 25
