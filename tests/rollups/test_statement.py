"""Partials of rows, on every engine: their finals are what the plain statement answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading_models import Station, WeatherStationReading, tables

from tailrace.backends.private_connection import private_connection
from tailrace.backends.reading.query import AggregateQuery
from tailrace.backends.reading.result import Found, answer
from tailrace.backends.rollups.partial import ROWS, Partial
from tailrace.backends.rollups.ranges import FIRST_US, LAST_US, datetime_of, us_of
from tailrace.backends.rollups.statement import PartialQuery, partials, source_table, table_of
from tailrace.backends.testing.reading_data import events, make
from tailrace.backends.testing.reading_tools import other_threads
from tailrace.pipeline.event import INT_MAX
from tailrace.pipeline.interval import Buckets, parse_interval
from tailrace.pipeline.sketch import Sketch

from .answers import assert_close
from .stores import Store, store  # noqa: F401 - the fixture

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
_numbers = itertools.count()


def found_by_partials(store: Store, asked: AggregateQuery, ranges: list[tuple[int, int]]) -> Any:  # noqa: F811
    """Answer a question by partials of ranges, merged."""
    name = asked.field or ROWS
    wanted = PartialQuery(
        fields=(name,),
        group_by=asked.group_by,
        filters=asked.tags,
        interval=asked.interval,
        zone=asked.zone,
        has_sketch=asked.percent is not None,
    )
    merged: dict[Any, Partial] = {}
    with private_connection(store.alias) as connection:
        table = table_of(connection, asked.source)
        for cell in partials(table, wanted, ranges):
            assert cell.field == name
            assert cell.partial.count > 0
            merged.setdefault((cell.bucket_us, cell.group), Partial()).merge(cell.partial)
    places = table.decimal_places(name) if name else None
    found = []
    for (bucket_us, group), partial in merged.items():
        bucket = None if bucket_us is None else datetime_of(bucket_us).astimezone(asked.zone)
        result = partial.final(asked.function, places)
        if result is not None:
            found.append(Found(bucket, group, result))
    buckets = None
    if asked.interval and asked.window.start and asked.window.last:
        window = asked.window
        assert window.start
        assert window.last
        buckets = Buckets(asked.interval, asked.zone, window.start, window.last)
    return answer(asked, found, buckets)


def test_partials_answer_as_the_plain_statement(store: Store) -> None:  # noqa: F811
    @given(st.data())
    @settings(
        max_examples=80,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(data: st.DataObject) -> None:
        measurement = f"partials {next(_numbers)}"
        made, question = data.draw(events(measurement))
        store.add(made)
        cuts = data.draw(
            st.lists(st.sampled_from([us_of(e.time) for e in made] or [0]), max_size=3)
        )
        low = FIRST_US if question.start is None else us_of(question.start)
        high = LAST_US if question.end is None else us_of(question.end)
        edges = [low, *sorted({cut for cut in cuts if low < cut < high}), high]
        asked = AggregateQuery.make(
            measurement,
            question.field,
            question.function,
            start=question.start,
            end=question.end,
            interval=question.interval,
            group_by=question.group_by or None,
            tags=question.tags or None,
            tz=question.zone,
            fill=question.fill,
        )
        found = found_by_partials(store, asked, list(itertools.pairwise(edges)))
        right = question.ask(store.backend, measurement)
        numbers = [e.fields.get("v") for e in made]
        assert_close(found, right, asked, numbers, (question, made, edges))

    with other_threads():
        check()


def one(store: Store, measurement: str, **options: Any) -> dict[Any, Partial]:  # noqa: F811
    with private_connection(store.alias) as connection:
        table = source_table(connection, measurement)
        cells = list(partials(table, PartialQuery(**options), [(FIRST_US, LAST_US)]))
    found = {(cell.bucket_us, cell.group, cell.field): cell.partial for cell in cells}
    assert len(found) == len(cells)
    return found


def test_several_fields_and_rows(store: Store) -> None:  # noqa: F811
    made = [
        make(
            "several", NOON + timedelta(minutes=n * 10), {"a": "x"}, {"v": n, "w": n / 2, "t": "t"}
        )
        for n in range(12)
    ]
    store.add(made)
    hour = parse_interval("hour")
    found = one(
        store, "several", fields=(ROWS, "v", "w", "t", "none"), group_by=("a", "b"), interval=hour
    )
    first, second = us_of(NOON), us_of(NOON + timedelta(hours=1))
    group = ("x", None)
    assert set(found) == set(itertools.product((first, second), [group], (ROWS, "v", "w", "t")))
    assert found[first, group, ROWS].count == 6
    assert found[second, group, "v"].whole_sum == 6 + 7 + 8 + 9 + 10 + 11
    assert found[second, group, "w"].final("sum") == (6 + 7 + 8 + 9 + 10 + 11) / 2
    text = found[second, group, "t"]
    assert (text.count, text.final("sum"), text.sketch) == (6, None, None)


def test_sums_beyond_64_bits(store: Store) -> None:  # noqa: F811
    store.add([make("large", NOON, {}, {"v": INT_MAX - n}) for n in range(5)])
    (partial,) = one(store, "large", fields=("v",), has_sketch=True).values()
    assert partial.whole_sum == 5 * INT_MAX - 10
    assert (partial.whole_min, partial.whole_max) == (INT_MAX - 4, INT_MAX)
    assert partial.sketch is not None
    assert partial.sketch.count == 5
    assert Partial.from_columns(list(partial.to_columns().values())) == partial


def test_bins_of_the_database_are_those_of_the_sketch(store: Store) -> None:  # noqa: F811
    values = [0, 0.0, -0.0, 1, -1, 2.5, -2.5, 1e-300, -1e300, 5e-324, 123456.789, INT_MAX]
    store.add([make("bins", NOON, {}, {"v": each}) for each in values])
    (partial,) = one(store, "bins", fields=("v",), has_sketch=True).values()
    assert partial.sketch is not None

    right = Sketch.of(float(each) for each in values).bins
    moved = {abs(place) for place in partial.sketch.bins} ^ {abs(place) for place in right}
    # A logarithm may fall on the other side of a bin's edge, and does for powers of its width.
    assert len(moved) <= 2
    assert partial.sketch.count == len(values)


def test_empty_and_backward_ranges_have_nothing(store: Store) -> None:  # noqa: F811
    store.add([make("none", NOON, {}, {"v": 1})])
    at = us_of(NOON)
    with private_connection(store.alias) as connection:
        table = source_table(connection, "none")
        asked = PartialQuery(fields=(ROWS, "v"), interval=parse_interval("month"), zone=BERLIN)
        assert list(partials(table, asked, [(at, at), (at + 1, at), (at + 1, LAST_US)])) == []
        assert len(list(partials(table, asked, [(FIRST_US, at + 1)]))) == 2


def test_a_source_that_is_none_is_told() -> None:
    from django.db import connection

    with pytest.raises(ValueError, match=r"no model .shop\.Missing"):
        source_table(connection, "shop.Missing")
    with pytest.raises(ValueError, match="no model"):
        source_table(connection, "Timeless.Timeless")


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
                temperature=None if n % 7 == 0 else n * 1.25 - 20,
                visitors=None if n % 5 == 0 else 2**61 + n,
                rain=Decimal(n * 1_001).scaleb(-3),
                is_open=[True, False, None][n % 3],
                note=["", "a", "A", "a ", "é"][n % 5],
                order=n % 4,
                seen=NOON if n % 2 else None,
            )
            for n in range(120)
        )
        yield store


@pytest.mark.parametrize("field", ["temperature", "visitors", "rain", "order", "note", None])
@pytest.mark.parametrize("group_by", [(), ("device",), ("note", "is_open", "seen")])
def test_readings(readings: Store, field: str | None, group_by: tuple[str, ...]) -> None:
    functions = ("count",) if field in ("note", None) else ("count", "sum", "avg", "min", "p95")
    for function, interval in itertools.product(functions, (None, "day")):
        options = {"interval": interval, "group_by": group_by, "tz": BERLIN, "device": 2}
        if not group_by:
            del options["device"]
        asked = AggregateQuery.make(WeatherStationReading, field, function, **options)
        found = found_by_partials(readings, asked, [(FIRST_US, LAST_US)])
        right = readings.backend.aggregate(WeatherStationReading, field, function, **options)
        assert_close(found, right, asked, [], options)


def test_reading_is_by_the_index(store: Store) -> None:  # noqa: F811
    """Each range is one look into the index on measurement and time."""
    if not store.alias.endswith("sqlite"):
        pytest.skip("plans of the other engines depend on how many rows there are")
    plans: list[str] = []
    with private_connection(store.alias) as connection:
        table = source_table(connection, "several")

        def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            with connection.cursor() as cursor:
                cursor.cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
                plans.extend(row[3] for row in cursor.cursor.fetchall())
            return execute(sql, params, many, context)

        asked = PartialQuery(fields=(ROWS, "v"), interval=parse_interval("hour"), has_sketch=True)
        with connection.execute_wrapper(explain):
            list(partials(table, asked, [(us_of(NOON), us_of(NOON) + 10**9)]))
    searches = [plan for plan in plans if "tailrace_event" in plan]
    assert len(searches) == 2
    assert all(
        "SEARCH" in plan and "measurement=? AND time>? AND time<?" in plan for plan in searches
    )
