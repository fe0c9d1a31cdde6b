"""Answers from rollups are those from rows, whatever is pending."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading_models import Station, WeatherStationReading, tables

from tailrace.backends.private_connection import private_connection
from tailrace.backends.reading.columns import ReadingSchema
from tailrace.backends.reading.query import AggregateQuery
from tailrace.backends.rollups.ranges import MAX_US, MIN_US, Range, us_of
from tailrace.backends.testing.reading_data import ZONES, events, make
from tailrace.backends.testing.reading_tools import other_threads
from tailrace.pipeline.event import Event
from tailrace.pipeline.rollup import FUNCTIONS, Rollup

from .answers import assert_close
from .kept import State, keep, note
from .stores import Store, store  # noqa: F401 - the fixture

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
WIDTHS = (
    ("5 minutes", "hour", "day"),
    ("minute", "hour"),
    ("hour", "6 hours", "day"),
    ("30 minutes", "day", "month"),
    ("day", "week"),
    ("7 hours",),
    ("month", "year"),
)
_numbers = itertools.count()


@st.composite
def rollups(draw: st.DrawFn, measurement: str) -> Rollup:
    zone = draw(st.sampled_from(ZONES))
    return Rollup.make(
        "r",
        measurement,
        fields=("v",),
        functions=FUNCTIONS,
        widths=draw(st.sampled_from(WIDTHS)),
        group_by=draw(st.sampled_from([(), ("route",), ("Route", "route"), ("route", "nix")])),
        time_zone=getattr(zone, "key", "UTC"),
    )


@st.composite
def states(draw: st.DrawFn, made: list[Event], levels: int) -> State:
    times = [us_of(event.time) for event in made] or [0]
    near = st.sampled_from(times).flatmap(
        lambda at: st.sampled_from([at, at + 1, at - 1, at + 3_600_000_000, at - 86_400_000_000])
    )
    spans = st.lists(
        st.tuples(near, near).filter(lambda pair: pair[0] < pair[1]).map(lambda p: Range(*p)),
        max_size=2,
    ).map(tuple)
    return State(
        threshold_us=draw(st.just(MAX_US) | near),
        source_log=draw(spans),
        level_logs=tuple(draw(spans) for _ in range(levels)),
        floors_us=tuple(draw(st.just(MIN_US) | st.just(MIN_US) | near) for _ in range(levels)),
    )


def test_answers_are_those_from_rows(store: Store) -> None:  # noqa: F811
    @given(st.data())
    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(data: st.DataObject) -> None:
        store.empty()
        measurement = f"kept {next(_numbers)}"
        made, question = data.draw(events(measurement))
        rollup = data.draw(rollups(measurement))
        state = data.draw(states(made, len(rollup.widths)))
        store.add(made)
        keep(store, rollup, state)
        options = {
            "function": question.function,
            "start": question.start,
            "end": question.end,
            "interval": question.interval,
            "group_by": question.group_by or None,
            "tags": question.tags or None,
            "tz": question.zone,
            "fill": question.fill,
        }
        found = store.backend.aggregate(measurement, question.field, **options)
        right = store.backend.aggregate(measurement, question.field, **options, use_rollups=False)
        asked = AggregateQuery.make(measurement, question.field, **options)
        values = [event.fields.get("v") for event in made]
        assert_close(found, right, asked, values, (question, rollup, state, made))

    with other_threads():
        check()


# --- that rollups are used at all, and by how many statements


def hours(count: int, measurement: str = "m") -> list[Event]:
    """Return two events an hour, at the full hour and half past."""
    return [
        make(
            measurement,
            NOON + timedelta(minutes=30 * n),
            {"route": "ab"[n % 2]},
            {"v": n},
        )
        for n in range(2 * count)
    ]


def declared(**options: Any) -> Rollup:
    given_options: dict[str, Any] = {
        "fields": ("v",),
        "functions": FUNCTIONS,
        "widths": ("hour", "day"),
        "group_by": ("route",),
    }
    return Rollup.make("r", "m", **{**given_options, **options})


class Spoiled:
    """A store whose rows are gone, so that answers can only be from buckets."""

    def __init__(self, store: Store, rollup: Rollup, state: State, count: int = 72) -> None:  # noqa: F811
        store.empty()
        store.add(hours(count))
        self.store = store
        self.ids = keep(store, rollup, state)
        store.rows("Event").delete()

    def ask(self, function: str = "sum", **options: Any) -> Any:
        return self.store.backend.aggregate("m", "v", function, **options)


def test_everything_is_from_buckets(store: Store) -> None:  # noqa: F811
    kept = Spoiled(store, declared(), State())
    assert kept.ask() == {"result": sum(range(144))}
    assert kept.ask("count") == {"result": 144}
    assert kept.ask("max", tags={"route": "a"}) == {"result": 142}
    assert kept.ask("min", group_by=["route"]) == [
        {"result": 0, "route": "a"},
        {"result": 1, "route": "b"},
    ]
    assert abs(kept.ask("p50")["result"] - 71.5) < 0.72
    assert store.backend.aggregate("m", None, "count") == {"result": 144}
    rows = kept.ask(interval="day")
    assert [row["result"] for row in rows] == [276, 2280, 4584, 3156]
    rows = kept.ask("count", interval="6 hours", tz="Asia/Kolkata")
    assert rows == []  # its half hours are none of whole hours
    assert kept.ask("sum", use_rollups=False) == {"result": None}


def test_only_buckets_that_are_right_are_read(store: Store) -> None:  # noqa: F811
    late = us_of(NOON + timedelta(hours=5, minutes=10))
    kept = Spoiled(store, declared(), State(source_log=(Range(late, late + 1),)))
    # Of that day, all hours but one.
    assert kept.ask("count") == {"result": 142}
    assert kept.ask("count", interval="day")[0]["result"] == 22
    kept = Spoiled(store, declared(), State(threshold_us=late))
    assert kept.ask("count") == {"result": 10}
    kept = Spoiled(store, declared(), State(floors_us=(late,)))
    # Days are there, and of hours only later ones.
    assert kept.ask("count") == {"result": 144}
    assert kept.ask("count", interval="hour")[0]["bucket"] == NOON + timedelta(hours=6)


def test_what_was_never_wanted_is_from_rows(store: Store) -> None:  # noqa: F811
    kept = Spoiled(store, declared(), State())
    noon = us_of(NOON)
    for level_id in kept.ids:
        note(store, f"unwanted:{level_id}", [Range(MIN_US, noon + 3 * 3_600_000_000)])
    assert kept.ask("count") == {"result": 144 - 6}


def test_the_coarsest_level_answers(store: Store) -> None:  # noqa: F811
    kept = Spoiled(store, declared(), State())
    day = timedelta(days=1)
    midnight = NOON.replace(hour=0)
    buckets = store.rows("RollupBucket")
    buckets.filter(level_id=kept.ids[0], bucket_us__lt=us_of(midnight + 2 * day)).delete()
    whole = {"start": midnight, "end": midnight + 2 * day}
    assert kept.ask("count", **whole) == {"result": 24 + 48}
    assert kept.ask("count", interval="week", **whole)[0]["result"] == 24 + 48
    assert kept.ask("count", interval="hour", **whole) == []


@pytest.mark.parametrize(
    ("options", "is_answered"),
    [
        ({}, True),
        ({"group_by": ["route"]}, True),
        ({"group_by": ["other"]}, False),
        ({"tags": {"other": "x"}}, False),
        ({"interval": "90 minutes"}, False),
        ({"interval": "2 hours"}, True),
        ({"interval": "hour", "tz": "Asia/Kolkata"}, False),
        ({"interval": "day", "tz": "Europe/Berlin"}, True),
    ],
)
def test_what_rollups_cannot_tell_is_from_rows(
    store: Store,  # noqa: F811
    options: dict[str, Any],
    is_answered: bool,
) -> None:
    kept = Spoiled(store, declared(), State())
    found = kept.ask("count", **options)
    nothing = ({"result": 0}, [])
    assert (found not in nothing) is is_answered


def test_other_fields_functions_and_measurements(store: Store) -> None:  # noqa: F811
    kept = Spoiled(store, declared(functions=("count", "sum")), State())
    assert kept.ask("sum")["result"] is not None
    assert kept.ask("p95") == {"result": None}
    assert kept.store.backend.aggregate("m", "w", "sum") == {"result": None}
    assert kept.store.backend.aggregate("M", "v", "sum") == {"result": None}


def statements_of(store: Store, call: Any) -> list[str]:  # noqa: F811
    seen: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    with private_connection(store.alias) as connection, connection.execute_wrapper(watch):
        call()
    return seen


def test_without_rollups_there_is_one_statement_more(store: Store) -> None:  # noqa: F811
    store.empty()
    store.add(hours(2, "other"))
    backend = store.backend
    plain = statements_of(store, lambda: backend.aggregate("other", "v", use_rollups=False))
    with_rollups = statements_of(store, lambda: backend.aggregate("other", "v"))
    assert len(with_rollups) <= len(plain) + 1, with_rollups


def test_a_rollup_answers_in_few_statements(store: Store) -> None:  # noqa: F811
    kept = Spoiled(store, declared(), State())
    start = NOON + timedelta(minutes=10)
    seen = statements_of(
        store, lambda: kept.ask("p95", start=start, end=start + timedelta(days=2), interval="hour")
    )
    reading = [sql for sql in seen if sql.startswith("SELECT")]
    # Levels twice, source, log; buckets; rows of the first and the last hour.
    assert len(reading) <= 7, seen


def test_writers_are_not_held_up(store: Store) -> None:  # noqa: F811
    """A question is no writer: on SQLite, it takes no lock that only one can have."""
    kept = Spoiled(store, declared(), State())
    seen = statements_of(store, lambda: kept.ask("sum"))
    assert not [sql for sql in seen if "IMMEDIATE" in sql or "FOR UPDATE" in sql]


def test_a_question_within_a_transaction_is_answered_from_rows(store: Store) -> None:  # noqa: F811
    from django.db import transaction

    kept = Spoiled(store, declared(), State())
    with private_connection(store.alias), transaction.atomic(using=store.alias):
        assert kept.ask("count") == {"result": 0}


def test_rows_that_come_in_meanwhile_do_not_tear_an_answer(store: Store) -> None:  # noqa: F811
    """State, buckets and rows are of one moment."""
    store.empty()
    store.add(hours(4))
    keep(store, declared(widths=("hour",)), State())
    from django.db import connections

    other = connections.create_connection(store.alias)
    done: list[int] = []

    def interfere(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found = execute(sql, params, many, context)
        if "tailrace_rollupinvalidation" in sql and not done:
            done.append(1)
            with other.cursor() as cursor:
                cursor.execute("DELETE FROM tailrace_rollupbucket")
                cursor.execute("DELETE FROM tailrace_event")
        return found

    try:
        with private_connection(store.alias) as connection, connection.execute_wrapper(interfere):
            found = store.backend.aggregate("m", "v", "count")
        assert done
        assert found == {"result": 8}
        assert store.backend.aggregate("m", "v", "count") == {"result": 0}
    finally:
        other.close()


def test_hours_of_a_clock_that_is_put_back(store: Store) -> None:  # noqa: F811
    store.empty()
    first = datetime(2024, 10, 26, 20, tzinfo=UTC)
    store.add([make("m", first + timedelta(minutes=20 * n), {}, {"v": n}) for n in range(100)])
    keep(store, declared(group_by=(), time_zone="Europe/Berlin", widths=("hour", "day")), State())
    ask = store.backend.downsample
    for interval in ("hour", "day", "week"):
        for zone in ("Europe/Berlin", "UTC", "America/New_York"):
            right = ask("m", "v", interval, "sum", tz=zone, use_rollups=False)
            assert ask("m", "v", interval, "sum", tz=zone) == right
    store.rows("Event").delete()
    days = ask("m", "v", "day", "count", tz="Europe/Berlin")
    assert [row["result"] for row in days] == [6, 75, 19]
    assert len(ask("m", "v", "hour", "count", tz="Europe/Berlin")) == 34


def test_use_rollups_is_true_or_false(store: Store) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="use_rollups"):
        store.backend.aggregate("m", "v", use_rollups="no")


# --- readings


@pytest.fixture(scope="module")
def readings(store: Store) -> Iterator[Store]:  # noqa: F811
    routers = ["reading_models.ReadingsRouter"]
    with override_settings(DATABASE_ROUTERS=routers), tables(store.alias):
        Station.objects.using(store.alias).bulk_create(
            Station(id=n + 1, name=f"s{n}") for n in range(3)
        )
        WeatherStationReading.objects.using(store.alias).bulk_create(
            WeatherStationReading(
                device_id=n % 3 + 1,
                timestamp=datetime(2024, 3, 30, 12, tzinfo=UTC) + timedelta(minutes=37 * n),
                temperature=None if n % 7 == 0 else n * 1.25 + 1,
                visitors=None if n % 5 == 0 else 2**61 + n,
                rain=Decimal(n * 1_001).scaleb(-3),
                is_open=[True, False, None][n % 3],
                note=["", "a", "A", "a ", "é"][n % 5],
                order=n % 4,
                seen=NOON + timedelta(microseconds=n % 2) if n % 3 else None,
            )
            for n in range(120)
        )
        yield store


FIELDS = ("temperature", "visitors", "rain", "order")


@pytest.mark.parametrize("field", [*FIELDS, None])
@pytest.mark.parametrize("group_by", [(), ("device",), ("device_id", "note"), ("is_open", "seen")])
def test_readings(readings: Store, field: str | None, group_by: tuple[str, ...]) -> None:
    readings.empty()
    label = WeatherStationReading._meta.label
    rollup = Rollup.make(
        "stations",
        label,
        fields=FIELDS,
        functions=FUNCTIONS,
        widths=("hour", "day"),
        group_by=("device", "note", "is_open", "seen"),
    )
    pending = us_of(datetime(2024, 3, 31, 7, 11, tzinfo=UTC))
    state = State(source_log=(Range(pending, pending + 1),))
    keep(readings, rollup, state, ReadingSchema(WeatherStationReading))
    functions = ("count",) if field is None else ("count", "sum", "avg", "min", "max", "p95")
    ask = readings.backend.aggregate
    for function, interval in itertools.product(functions, (None, "hour", "day")):
        options = {"interval": interval, "group_by": group_by, "tz": "Europe/Berlin", "device": 2}
        found = ask(WeatherStationReading, field, function, **options)
        right = ask(WeatherStationReading, field, function, **options, use_rollups=False)
        asked = AggregateQuery.make(WeatherStationReading, field, function, **options)
        assert_close(found, right, asked, [2.0**61] if field == "visitors" else [], options)


def test_readings_are_from_buckets(readings: Store) -> None:
    readings.empty()
    rollup = Rollup.make(
        "stations",
        WeatherStationReading._meta.label,
        fields=("rain",),
        widths=("day",),
        group_by=("device", "seen"),
    )
    keep(readings, rollup, State(), ReadingSchema(WeatherStationReading))
    buckets = readings.rows("RollupBucket")
    assert buckets.filter(field="rain", other_sum__startswith="d").exists()
    before = readings.backend.aggregate(WeatherStationReading, "rain", "sum", device=1)
    assert isinstance(before["result"], Decimal)
    buckets.filter(field="rain").update(other_sum="d1.000")
    after = readings.backend.aggregate(WeatherStationReading, "rain", "sum", device=1)
    assert after["result"] != before["result"]
    assert after["result"].as_tuple().exponent == -3
