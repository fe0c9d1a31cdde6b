"""Continuous aggregates: made, refreshed, and answering exactly what the readings answer."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_alias import rows
from timescale.weather.models import WeatherReading

from tailrace.backends.postgres import PostgresBackend
from tailrace.backends.private_connection import private_connection
from tailrace.backends.timescale import TimescaleDBBackend
from tailrace.backends.timescaledb.spans import SPANS_MAX, Span, gaps, raw_spans
from tailrace.pipeline.errors import NotSupportedByBackend

from .conftest import NEW_YEAR, ROWS, STEP, Weather
from .test_backend import backend as backend
from .test_create_hypertable import HOSTILE

HOUR = timedelta(hours=1)
FUNCTIONS = ("avg", "sum", "min", "max", "count")
FIELDS = ("temperature", "rain_mm", "price")
BERLIN = ZoneInfo("Europe/Berlin")
KOLKATA = ZoneInfo("Asia/Kolkata")


@pytest.fixture
def plain(backend: TimescaleDBBackend) -> PostgresBackend:
    """The same readings, without continuous aggregates."""
    return PostgresBackend("default", {"ALIAS": backend.get_db_alias()})


def is_used(backend: TimescaleDBBackend, view: str, *args: Any, **options: Any) -> bool:
    """Return whether a question is answered from what a view has materialised."""
    ((table,),) = rows(
        backend.get_db_alias(),
        "SELECT materialization_hypertable_name FROM timescaledb_information.continuous_aggregates "
        "WHERE view_name = %s",
        view,
    )
    with (
        private_connection(backend.get_db_alias()) as connection,
        CaptureQueriesContext(connection) as queries,
    ):
        backend.aggregate(*args, **options)
    return any(f'"{table}"' in query["sql"] for query in queries.captured_queries)


def close(found: Any, right: Any) -> bool:
    """Compare rows; floats up to the order in which they were added up."""
    if isinstance(found, list):
        return len(found) == len(right) and all(map(close, found, right))
    if isinstance(found, dict):
        return found.keys() == right.keys() and all(close(found[k], right[k]) for k in found)
    if isinstance(found, float):
        return type(right) is float and abs(found - right) <= 1e-9 * max(1, abs(right))
    return type(found) is type(right) and found == right


def check_all(backend: Any, plain: Any, **options: Any) -> int:
    """Ask everything of both; return how many rows there were."""
    count = 0
    for field in FIELDS:
        for function in FUNCTIONS:
            question = (WeatherReading, field, function)
            found = backend.aggregate(*question, **options)
            right = plain.aggregate(*question, **options)
            assert close(found, right), (field, function, options)
            count += len(right)
    return count


def make_all(backend: TimescaleDBBackend, **options: Any) -> None:
    for field in FIELDS:
        for function in ("avg", "min", "max", "count"):
            backend.continuous_aggregate(
                f"{field}_{function}", WeatherReading, field, function, **options
            )


class TestMaking:
    def test_what_is_in_it(self, backend: TimescaleDBBackend, weather: Weather) -> None:
        assert backend.continuous_aggregate("warmth", WeatherReading, "temperature") is True
        found = weather.sql("SELECT bucket, device_id, result FROM warmth ORDER BY bucket")
        assert found == [(NEW_YEAR + n * STEP, 1 + n % 2, n * 0.25) for n in range(ROWS)]
        ((is_materialized_only,),) = weather.sql(
            "SELECT materialized_only FROM timescaledb_information.continuous_aggregates"
        )
        assert is_materialized_only is False

    def test_its_schedule(self, backend: TimescaleDBBackend, weather: Weather) -> None:
        backend.continuous_aggregate("warmth", WeatherReading, "temperature")
        query = (
            "SELECT config->>'start_offset', config->>'end_offset', schedule_interval "
            "FROM timescaledb_information.jobs WHERE hypertable_name = 'warmth'"
        )
        assert weather.sql(query) == [("1 mon", "01:00:00", HOUR)]
        again = backend.continuous_aggregate(
            "warmth", WeatherReading, "temperature", start_offset=None, schedule_interval="1 day"
        )
        assert again is False
        assert weather.sql(query) == [(None, "01:00:00", timedelta(days=1))]

    def test_its_job_runs(self, backend: TimescaleDBBackend, weather: Weather) -> None:
        backend.continuous_aggregate("warmth", WeatherReading, "temperature", with_data=False)
        now = datetime.now(UTC)
        weather.readings.create(device_id=1, timestamp=now - timedelta(days=2), temperature=3)
        ((job,),) = weather.sql(
            "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'warmth'"
        )
        weather.sql("CALL run_job(%s)", job)
        weather.sql("ALTER MATERIALIZED VIEW warmth SET (timescaledb.materialized_only = true)")
        assert weather.sql("SELECT result FROM warmth") == [(3.0,)]

    @pytest.mark.parametrize("function", [*FUNCTIONS, "p50", "p95"])
    def test_every_function(
        self, backend: TimescaleDBBackend, plain: Any, weather: Weather, function: str
    ) -> None:
        backend.continuous_aggregate("x", WeatherReading, "rain_mm", function, interval="1 day")
        found = weather.sql("SELECT bucket, device_id, result FROM x ORDER BY 1, 2")
        right = plain.aggregate(
            WeatherReading, "rain_mm", function, interval="1 day", group_by=["device_id"]
        )
        assert [(b, d, float(r)) for b, d, r in found] == [
            (row["bucket"], row["device_id"], pytest.approx(float(row["result"]))) for row in right
        ]

    def test_a_name_is_taken_once(self, backend: TimescaleDBBackend, weather: Weather) -> None:
        backend.continuous_aggregate("warmth", WeatherReading, "temperature")
        for name, field in (("warmth", "rain_mm"), ("weather_station", "rain_mm")):
            with pytest.raises(ValueError, match="another name"):
                backend.continuous_aggregate(name, WeatherReading, field)

    def test_what_fails_leaves_nothing(self, backend: TimescaleDBBackend, weather: Weather) -> None:
        with pytest.raises(ValueError, match="TimescaleDB says"):
            backend.continuous_aggregate(
                "warmth", WeatherReading, "temperature", start_offset="1 hour", end_offset="1 hour"
            )
        assert weather.sql("SELECT to_regclass('warmth')") == [(None,)]

    def test_a_plain_table_has_none(self, backend: TimescaleDBBackend, weather: Weather) -> None:
        weather.migrate("0001")
        with pytest.raises(NotSupportedByBackend, match="CreateHypertable"):
            backend.continuous_aggregate("warmth", WeatherReading, "temperature")

    def test_dropping(self, backend: TimescaleDBBackend, weather: Weather) -> None:
        backend.continuous_aggregate("warmth", WeatherReading, "temperature")
        backend.drop_continuous_aggregate("warmth", WeatherReading)
        assert weather.sql("SELECT to_regclass('warmth')") == [(None,)]
        with pytest.raises(ValueError, match="no continuous aggregate"):
            backend.drop_continuous_aggregate("warmth", WeatherReading)

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_hostile_arguments_run_nothing(
        self, backend: TimescaleDBBackend, weather: Weather, hostile: str
    ) -> None:
        backend.continuous_aggregate(hostile, WeatherReading, "temperature")
        (found,) = weather.sql(
            "SELECT view_name FROM timescaledb_information.continuous_aggregates"
        )
        assert found == (hostile,)
        question = (WeatherReading, "temperature")
        assert backend.downsample(*question, "1 day") == PostgresBackend(
            "default", {"ALIAS": weather.alias}
        ).downsample(*question, "1 day")
        backend.refresh_continuous_aggregate(hostile, WeatherReading)
        backend.drop_continuous_aggregate(hostile, WeatherReading)
        arguments = {"name": "x", "reading_model": WeatherReading, "field": "temperature"}
        for name in (
            *("reading_model", "field", "function", "interval"),
            *("start_offset", "end_offset", "schedule_interval"),
        ):
            with pytest.raises(ValueError):
                backend.continuous_aggregate(**{**arguments, name: hostile})
        assert (
            weather.sql("SELECT view_name FROM timescaledb_information.continuous_aggregates") == []
        )
        assert (weather.readings.count(), weather.stations.count()) == (ROWS, 2)

    @pytest.mark.parametrize("name", ["", "a" * 64, "ü" * 32, "\0", "\ud800", None, 7])
    def test_names_that_no_view_can_have(self, backend: TimescaleDBBackend, name: Any) -> None:
        with pytest.raises(ValueError, match="name"):
            backend.continuous_aggregate(name, WeatherReading, "temperature")


class TestReading:
    def test_it_is_used_where_it_can_answer(
        self, backend: TimescaleDBBackend, weather: Weather
    ) -> None:
        backend.continuous_aggregate("warmth", WeatherReading, "temperature")

        def uses(field: str = "temperature", function: str = "avg", **options: Any) -> bool:
            return is_used(backend, "warmth", WeatherReading, field, function, **options)

        for good in (
            {"interval": "hour"},
            {"interval": "6 hours", "group_by": ["device_id"]},
            {"interval": "month", "tz": BERLIN, "start": NEW_YEAR, "end": NEW_YEAR + 99 * HOUR},
            {"interval": "hour", "function": "sum", "device": 1},
            {"interval": "hour", "start": NEW_YEAR + timedelta(minutes=7)},
        ):
            assert uses(**good), good
        for bad in (
            {"interval": "30 minutes"},
            {"interval": "90 minutes"},
            {"interval": "hour", "function": "max"},
            {"interval": "hour", "field": "rain_mm"},
            {"interval": "hour", "tz": KOLKATA},
            {"interval": "hour", "group_by": ["rain_mm"]},
            {"interval": "hour", "tags": {"rain_mm": 3}},
            {"interval": "hour", "start": NEW_YEAR + HOUR / 2, "end": NEW_YEAR + HOUR},
            {"function": "avg"},
        ):
            assert not uses(**bad), bad

    @pytest.mark.parametrize("with_data", [True, False])
    def test_the_same_answers(
        self, backend: TimescaleDBBackend, plain: Any, weather: Weather, with_data: bool
    ) -> None:
        make_all(backend, with_data=with_data)
        self.change(weather)
        part = {"start": NEW_YEAR + HOUR * 5.2, "end": NEW_YEAR + HOUR * 301.7}
        for options in (
            {"interval": "hour"},
            {"interval": "day", **part},
            {"interval": "month", "tz": BERLIN, "group_by": ["device_id"]},
            {"interval": "6 hours", "device": 1, "fill": 0, **part},
        ):
            assert check_all(backend, plain, **options) > 0

    def change(self, weather: Weather) -> None:
        """Change what is materialised: add late readings, delete some, change others."""
        late = NEW_YEAR + timedelta(days=3, minutes=10)
        weather.readings.create(device_id=2, timestamp=late, temperature=99, rain_mm=9, price=1)
        weather.readings.create(device_id=1, timestamp=late + timedelta(days=4))
        weather.readings.filter(pk=100).delete()
        weather.readings.filter(pk=150).update(temperature=float("nan"), rain_mm=None, price=None)
        weather.readings.create(device_id=1, timestamp=datetime(2031, 1, 1, tzinfo=UTC), rain_mm=4)
        weather.readings.create(device_id=1, timestamp=datetime(1960, 1, 1, tzinfo=UTC), rain_mm=5)

    def test_after_a_refresh_of_a_part(
        self, backend: TimescaleDBBackend, plain: Any, weather: Weather
    ) -> None:
        make_all(backend, with_data=False)
        for field in FIELDS:
            for function in ("avg", "min", "max", "count"):
                backend.refresh_continuous_aggregate(
                    f"{field}_{function}",
                    WeatherReading,
                    NEW_YEAR + timedelta(days=4),
                    NEW_YEAR + timedelta(days=9),
                )
        self.change(weather)
        assert is_used(backend, "temperature_avg", WeatherReading, "temperature", interval="hour")
        assert check_all(backend, plain, interval="hour") > 0

    def test_what_was_never_materialised_is_read_from_the_readings(
        self, backend: TimescaleDBBackend, plain: Any
    ) -> None:
        backend.continuous_aggregate("warmth", WeatherReading, "temperature", with_data=False)
        question = (WeatherReading, "temperature")
        assert not is_used(backend, "warmth", *question, interval="hour")
        assert backend.downsample(*question, "hour") == plain.downsample(*question, "hour")

    def test_dropped_readings_are_gone_from_the_answer(
        self, backend: TimescaleDBBackend, plain: Any, weather: Weather
    ) -> None:
        """TimescaleDB notes what it drops; the view keeps it until its next refresh."""
        make_all(backend)
        weather.sql(
            "SELECT drop_chunks('weather_weatherreading', %s::timestamptz)",
            NEW_YEAR + timedelta(days=10),
        )
        assert weather.readings.count() < ROWS
        assert check_all(backend, plain, interval="hour") > 0
        ((kept,),) = weather.sql("SELECT sum(result) FROM rain_mm_count")
        assert kept == ROWS

    def test_random_questions(
        self, backend: TimescaleDBBackend, plain: Any, weather: Weather
    ) -> None:
        make_all(backend)
        self.change(weather)
        dice = random.Random(20240101)
        for _ in range(60):
            start = NEW_YEAR + dice.random() * timedelta(days=20)
            options = {
                "interval": dice.choice(["hour", "3 hours", "day", "week", "month", "2 hours"]),
                "start": dice.choice([None, start]),
                "end": dice.choice([None, start + dice.random() * timedelta(days=9)]),
                "tz": dice.choice([None, BERLIN, KOLKATA, ZoneInfo("America/New_York")]),
                "group_by": dice.choice([None, ["device"], ["device_id"]]),
                "device": dice.choice([None, 1]),
                "tags": dice.choice([None, {"device": [1, 2]}, {"device_id": [None, 2]}]),
            }
            field, function = dice.choice(FIELDS), dice.choice(FUNCTIONS)
            question = (WeatherReading, field, function)
            found = backend.aggregate(*question, **options)
            assert close(found, plain.aggregate(*question, **options)), (field, function, options)


class TestSpans:
    """Which stretches of time come from where."""

    @given(
        st.tuples(st.integers(-500, 500), st.integers(1, 700)),
        st.lists(st.tuples(st.integers(-600, 600), st.integers(1, 60)), max_size=90),
        st.integers(1, 7),
    )
    @settings(max_examples=200, deadline=None, database=None)
    def test_all_is_covered_once(
        self, window: tuple[int, int], stale: list[tuple[int, int]], width: int
    ) -> None:
        whole = Span(window[0], sum(window))
        raw = raw_spans(whole, width, [Span(low, low + length) for low, length in stale])
        ready = gaps(whole, raw)
        pieces = sorted(raw + ready)
        assert [piece for piece in pieces if piece.start >= piece.end] == []
        assert pieces[0].start == whole.start
        assert pieces[-1].end == whole.end
        assert all(a.end == b.start for a, b in itertools.pairwise(pieces))
        assert len(raw) <= SPANS_MAX
        for span in ready:
            for low, length in stale:
                assert span.end <= low or span.start >= low + length
