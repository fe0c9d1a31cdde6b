"""Events come back as they are, those that were asked for, in their order."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.pipeline.event import INT_MAX, INT_MIN

from .reading_data import HARD_NAMES, make
from .reading_tools import NOON, ReaderTools, other_threads

MICROSECOND = timedelta(microseconds=1)


class EventsContract(ReaderTools):
    """Tests of :meth:`Reader.query`."""

    def test_an_event_comes_back_as_it_is(self) -> None:
        fields = {
            "whole": 7,
            "float": 12.5,
            "whole_float": 3.0,
            "far": INT_MAX,
            "near": INT_MIN,
            "yes": True,
            "no": False,
            "nothing": None,
            "text": "naïve 数据 \U0001f30a 'quoted' \"twice\" back\\slash",
            "tiny": 5e-324,
        }
        event = make("m", NOON + MICROSECOND, {"plan": "pro", "é": ""}, fields, "ab" * 16)
        (found,) = self.stored(event).query("m")
        assert found == event.as_dict()
        assert {name: type(value) for name, value in found["fields"].items()} == {
            name: type(value) for name, value in fields.items()
        }
        assert found["time"].utcoffset() == timedelta()

    def test_large_floats_come_back_alike_everywhere(self) -> None:
        numbers = [1e15, 1e16, -1e17, 9.2e18, 9223372036854775808.0, -9223372036854775808.0, 1e22]
        numbers += [1.7976931348623157e308, -1e300]
        backend = self.stored(make("m", NOON, {}, {str(n): n for n in numbers}))
        found = list(backend.query("m")[0]["fields"].values())
        assert sorted(found) == sorted(numbers)
        assert {type(each) for each in found if 1e16 <= abs(each) < 2**63} == {int}
        assert {type(each) for each in found if abs(each) > 2**63} == {float}

    def test_an_event_without_trace_has_none(self) -> None:
        (found,) = self.stored(make("m", NOON, {}, {})).query("m")
        assert (found["trace_id"], found["tags"], found["fields"]) == (None, {}, {})

    def test_only_the_measurement_itself(self) -> None:
        """Nor those that a collation takes for the same."""
        names = ["m", "M", "m ", "ḿ", " m", "mm", "é", "e\u0301"]
        backend = self.stored(*(make(name, NOON, {}, {}) for name in names))
        for name in names:
            assert [each["measurement"] for each in backend.query(name)] == [name]
            assert backend.aggregate(name, None, "count") == {"result": 1}
        assert backend.query("other") == []

    def test_the_start_belongs_to_a_window_and_the_end_does_not(self) -> None:
        times = [NOON - MICROSECOND, NOON, NOON + MICROSECOND, NOON + timedelta(hours=1)]
        backend = self.stored(*(make("m", time, {}, {}) for time in times))

        def between(**window: Any) -> list[datetime]:
            assert backend.aggregate("m", None, "count", **window)["result"] == len(
                backend.query("m", **window)
            )
            return [each["time"] for each in backend.query("m", order="time", **window)]

        assert between(start=NOON, end=times[3]) == times[1:3]
        assert between(start=NOON) == times[1:]
        assert between(end=NOON) == times[:1]
        assert between() == times
        far = timezone(timedelta(hours=5, minutes=30))
        assert between(start=NOON.astimezone(far), end=NOON.astimezone(far) + MICROSECOND) == [NOON]

    def test_whole_seconds_sort_among_their_fractions(self) -> None:
        times = [NOON + timedelta(microseconds=n * 250_000) for n in range(8)]
        backend = self.stored(*(make("m", time, {}, {}) for time in reversed(times)))
        assert [each["time"] for each in backend.query("m", order="time")] == times
        assert len(backend.query("m", start=times[4], end=times[6])) == 2

    def test_order_and_limit_are_those_of_the_whole_result(self) -> None:
        """Of all series together, not of each."""
        backend = self.stored(
            *(
                make("m", NOON + timedelta(seconds=n * 7 % 10), {"device_id": str(n % 3)}, {"n": n})
                for n in range(10)
            )
        )
        newest = backend.query("m")
        assert [each["time"] for each in newest] == sorted(
            (each["time"] for each in newest), reverse=True
        )
        assert backend.query("m", limit=4) == newest[:4]
        assert backend.query("m", order="-time", limit=99) == newest
        assert backend.query("m", order="time") == newest[::-1]
        assert backend.query("m", limit=0) == []

    def test_equal_times_have_one_order(self) -> None:
        events = [make("m", NOON, {}, {"n": n}) for n in range(30)]
        backend = self.stored(*events)
        ids = sorted(str(event.uuid) for event in events)
        assert [each["id"] for each in backend.query("m", order="time")] == ids
        assert [each["id"] for each in backend.query("m")] == ids[::-1]
        assert [each["id"] for each in backend.query("m", limit=7)] == ids[:-8:-1]

    def test_events_of_a_trace(self) -> None:
        traces = ["ab" * 16, "AB" * 16, "cd" * 16, None]
        backend = self.stored(*(make("m", NOON, {}, {}, trace) for trace in traces))
        (found,) = backend.query("m", trace_id="ab" * 16, limit=1)
        assert found["trace_id"] == "ab" * 16
        assert len(backend.query("m", trace_id="ab" * 16)) == 1
        assert backend.query("m", trace_id="ef" * 16) == []

    def test_events_with_tags(self) -> None:
        routes = ["a", "A", "a ", "b", "", None]
        backend = self.stored(
            *(make("m", NOON, {} if r is None else {"route": r}, {}) for r in routes)
        )

        def routes_of(wanted: Any) -> list[str | None]:
            found = backend.query("m", tags={"route": wanted})
            assert backend.aggregate("m", None, "count", tags={"route": wanted}) == {
                "result": len(found)
            }
            return sorted((each["tags"].get("route") for each in found), key=str)

        assert routes_of("a") == ["a"]
        assert routes_of(["a", "b", "zz"]) == ["a", "b"]
        assert routes_of("") == [""]
        assert routes_of(None) == [None]
        assert routes_of(["A", None]) == ["A", None]
        assert routes_of([]) == []
        assert backend.query("m", tags={"route": "a", "other": "x"}) == []
        assert len(backend.query("m", tags={})) == len(routes)

    def test_names_that_differ_in_case_are_two_tags(self) -> None:
        backend = self.stored(make("m", NOON, {"route": "a"}, {"v": 1, "V": "text"}))
        both = {"route": "a", "Route": "a"}
        assert backend.query("m", tags=both) == []
        assert backend.aggregate("m", "v", "count", tags=both) == {"result": 0}
        assert backend.query("m", tags={"route": "a", "Route": None})[0]["fields"]["v"] == 1
        (row,) = backend.aggregate("m", "v", "sum", group_by=["route", "Route", "route "])
        assert row == {"result": 1, "route": "a", "Route": None, "route ": None}

    def test_numbers_are_tags_as_record_stores_them(self) -> None:
        backend = self.stored(make("m", NOON, {"status": "200", "ok": "True"}, {}))
        assert len(backend.query("m", tags={"status": 200, "ok": True})) == 1

    def test_some_fields_only(self) -> None:
        backend = self.stored(make("m", NOON, {}, {"a": 1, "b": 2}), make("m", NOON, {}, {"b": 3}))
        assert [each["fields"] for each in backend.query("m", fields=["b"], order="time")] in (
            [{"b": 2}, {"b": 3}],
            [{"b": 3}, {"b": 2}],
        )
        assert [each["fields"] for each in backend.query("m", fields=["no such"])] == [{}, {}]
        assert [each["fields"] for each in backend.query("m", fields=[])] == [{}, {}]

    def test_any_name_works_for_fields_and_tags(self) -> None:
        events = [
            make("m", NOON, {name: f"tag {n}", "plain": "x"}, {name: n, "other": -1})
            for n, name in enumerate(HARD_NAMES)
        ]
        backend = self.stored(*events)
        for n, name in enumerate(HARD_NAMES):
            if name != "plain":
                groups = backend.aggregate("m", name, "max", group_by=[name])
                assert groups == [{"result": n, name: f"tag {n}"}], name
            assert backend.aggregate("m", name, "sum") == {"result": n}, name
            assert backend.aggregate("m", name, "count") == {"result": 1}, name
            (found,) = backend.query("m", tags={name: f"tag {n}"} if n else {"plain": "tag 0"}) or [
                backend.query("m", fields=["plain"])[-1]
            ]
            if n:
                assert found["fields"][name] == n, name

    def test_any_measurement_works(self) -> None:
        backend = self.stored(*(make(name, NOON, {}, {"v": 1}) for name in HARD_NAMES))
        for name in HARD_NAMES:
            assert [each["measurement"] for each in backend.query(name)] == [name]

    def test_random_names_work(self) -> None:
        backend = self.open_shard()
        names = st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
            min_size=1,
            max_size=20,
        )
        numbers = itertools.count()

        @given(names, names, names)
        @settings(max_examples=self.reading_examples, deadline=None, database=None)
        def check(measurement: str, name: str, value: str) -> None:
            if name in ("bucket", "result"):
                return
            measurement = f"{measurement}{next(numbers)}"
            fields = {name: 3, name + "x": 4}
            self.add(backend, [make(measurement, NOON, {name: value, "x" + name: "no"}, fields)])
            (found,) = backend.query(measurement, tags={name: value}, fields=[name])
            assert found["tags"] == {name: value, "x" + name: "no"}
            assert found["fields"] == {name: 3}
            assert backend.aggregate(measurement, name, "sum", group_by=[name]) == [
                {"result": 3, name: value}
            ]
            assert backend.query(measurement, tags={name: value + "x"}) == []

        with other_threads():
            check()

    def test_reading_is_not_stopped_by_a_writer(self) -> None:
        backend = self.stored(make("m", NOON, {}, {"v": 1}))
        before = datetime.now(UTC)
        assert backend.query("m", end=before)[0]["fields"] == {"v": 1}
