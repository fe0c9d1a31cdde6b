"""Readings in a typed table: the same answers on every backend."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from reading_models import LABEL, Station, Timeless, WeatherStationReading, tables

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.memory import MemoryBackend
from tailrace.backends.testing.reading_data import FUNCTIONS
from tailrace.backends.testing.reading_oracle import compute
from tailrace.backends.testing.reading_tools import raises

START = datetime(2024, 3, 30, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
DATABASES = ("sqlite_database", "postgres_contract_database", "mariadb_contract_database")


class MemoryOfReadings(MemoryBackend):
    """The memory backend with a place for readings."""

    readings: list[WeatherStationReading]

    def stored_readings(self, model: type) -> Iterable[dict[str, Any]]:
        assert model is WeatherStationReading
        names = [field.attname for field in model._meta.concrete_fields]
        return [{name: getattr(row, name) for name in names} for row in self.readings]


def rows() -> list[WeatherStationReading]:
    generator = random.Random(7)
    made = []
    for number in range(120):
        made.append(
            WeatherStationReading(
                id=number + 1,
                device_id=number % 3 + 1,
                timestamp=START + timedelta(minutes=number * 17 % 50 * 30),
                temperature=None if number % 7 == 0 else generator.uniform(-20, 40),
                visitors=None if number % 5 == 0 else generator.randrange(-(2**62), 2**62),
                rain=Decimal(generator.randrange(10**6)).scaleb(-3),
                is_open=[True, False, None][number % 3],
                note=["", "a", "A", "a ", "é"][number % 5],
                order=number % 4,
                seen=START + timedelta(days=number) if number % 2 else None,
                extra={"x": number},
            )
        )
    return made


@pytest.fixture(scope="module", params=["memory", *DATABASES])
def backend(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[Any]:
    if request.param == "memory":
        memory = MemoryOfReadings()
        memory.readings = rows()
        yield memory
        return
    alias = request.getfixturevalue(request.param).alias
    with django_db_blocker.unblock(), routed(), tables(alias):
        Station.objects.using(alias).bulk_create(Station(id=n + 1, name=f"s{n}") for n in range(3))
        WeatherStationReading.objects.using(alias).bulk_create(rows())
        yield DjangoDBBackend("default", {"ALIAS": alias})


def routed() -> Any:
    from django.test import override_settings

    return override_settings(DATABASE_ROUTERS=["reading_models.ReadingsRouter"])


def test_query_readings_returns_dicts(backend: Any) -> None:
    (newest,) = backend.query_readings(WeatherStationReading, device=2, limit=1)
    expected = max(
        (row for row in rows() if row.device_id == 2), key=lambda row: (row.timestamp, row.id)
    )
    assert newest == {
        "device_id": 2,
        **{name: getattr(expected, name) for name in list(newest) if name != "device_id"},
    }
    assert list(newest)[:2] == ["device_id", "timestamp"]
    assert set(newest) == {
        *("device_id", "timestamp", "temperature", "visitors", "rain", "is_open", "note", "order"),
        *("seen", "extra"),
    }
    assert newest["timestamp"].utcoffset() == timedelta()
    assert type(newest["rain"]) is Decimal


def test_order_and_limit_are_those_of_the_whole_result(backend: Any) -> None:
    everything = backend.query_readings(WeatherStationReading, fields=["visitors"])
    assert len(everything) == 120
    right = sorted(rows(), key=lambda row: (row.timestamp, row.device_id, row.id), reverse=True)
    assert [row["visitors"] for row in everything] == [row.visitors for row in right]
    top = backend.query_readings(WeatherStationReading, fields=["visitors"], limit=7)
    assert top == everything[:7]
    first = backend.query_readings(WeatherStationReading, fields=["visitors"], order="timestamp")
    assert first == everything[::-1]


def test_order_by_a_column_has_none_last(backend: Any) -> None:
    found = backend.query_readings(WeatherStationReading, order="temperature")
    values = [row["temperature"] for row in found]
    numbers = [value for value in values if value is not None]
    assert values == sorted(numbers) + [None] * values.count(None)
    down = backend.query_readings(WeatherStationReading, order="-temperature", limit=3)
    assert [row["temperature"] for row in down] == sorted(numbers)[:-4:-1]
    by_device = backend.query_readings(WeatherStationReading, order="device_id")
    assert [row["device_id"] for row in by_device] == [1] * 40 + [2] * 40 + [3] * 40


def test_windows_and_devices(backend: Any) -> None:
    end = START + timedelta(hours=3)
    found = backend.query_readings(WeatherStationReading, device=1, start=START, end=end)
    wanted = [row for row in rows() if row.device_id == 1 and START <= row.timestamp < end]
    assert len(found) == len(wanted) > 0
    station = Station(id=1)
    again = backend.query_readings(WeatherStationReading, device=station, start=START, end=end)
    assert again == found
    assert backend.query_readings(WeatherStationReading, device=99) == []


def test_a_model_can_be_queried_like_a_measurement(backend: Any) -> None:
    found = backend.query(WeatherStationReading, fields=["order"], tags={"device": 3}, limit=1)
    right = max((r for r in rows() if r.device_id == 3), key=lambda r: (r.timestamp, r.id))
    assert found == [
        {
            "id": str(right.id),
            "measurement": "weatherstation",
            "time": right.timestamp,
            "tags": {"device_id": "3"},
            "fields": {"order": right.order},
            "trace_id": None,
        }
    ]
    assert backend.query(WeatherStationReading, trace_id="x") == []


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("field", ["temperature", "visitors", "order"])
def test_aggregates_of_columns(backend: Any, field: str, function: str) -> None:
    values = [getattr(row, field) for row in rows() if getattr(row, field) is not None]
    right = compute(function, values)
    found = backend.aggregate(WeatherStationReading, field, function)["result"]
    assert type(found) is type(right)
    assert found == (right if isinstance(right, int) else pytest.approx(right, rel=1e-12))
    daily = backend.downsample(WeatherStationReading, field, "day", function, tz=BERLIN)
    for row in daily:
        inside = [
            getattr(each, field)
            for each in rows()
            if each.timestamp.astimezone(BERLIN).date() == row["bucket"].date()
            and getattr(each, field) is not None
        ]
        assert row["result"] == pytest.approx(compute(function, inside), rel=1e-12)
    assert len(daily) == 2


def test_sums_of_decimals_are_decimals(backend: Any) -> None:
    values = [row.rain for row in rows()]
    for function, right in (("sum", sum(values)), ("min", min(values)), ("max", max(values))):
        found = backend.aggregate(WeatherStationReading, "rain", function)["result"]
        assert (found, type(found)) == (right, Decimal)
    mean = backend.aggregate(WeatherStationReading, "rain")["result"]
    assert mean == pytest.approx(float(sum(values) / 120))
    assert type(mean) is float
    assert type(backend.aggregate(WeatherStationReading, "rain", "p95")["result"]) is float


def test_groups_and_filters_are_columns(backend: Any) -> None:
    counts = backend.aggregate(WeatherStationReading, None, "count", group_by=["note"])
    assert counts == [{"result": 24, "note": note} for note in sorted(["", "a", "A", "a ", "é"])]
    opened = backend.aggregate(WeatherStationReading, None, "count", group_by=["is_open"])
    assert [row["is_open"] for row in opened] == [None, False, True]
    assert all(type(row["is_open"]) in (bool, type(None)) for row in opened)
    devices = backend.aggregate(WeatherStationReading, None, "count", group_by=["device_id"])
    assert devices == [{"result": 40, "device_id": n} for n in (1, 2, 3)]
    seen = backend.aggregate(
        WeatherStationReading, None, "count", group_by=["seen"], tags={"order": [1], "note": "a"}
    )
    assert sum(row["result"] for row in seen) == sum(
        row.order == 1 and row.note == "a" for row in rows()
    )
    assert all(row["seen"].tzinfo for row in seen)
    nobody = backend.aggregate(WeatherStationReading, None, "count", tags={"is_open": None})
    assert nobody == {"result": 40}


def test_count_of_any_column(backend: Any) -> None:
    for field in ("is_open", "note", "seen", "device", "extra"):
        right = sum(
            getattr(row, field if field != "device" else "device_id") is not None for row in rows()
        )
        assert backend.aggregate(WeatherStationReading, field, "count") == {"result": right}


@pytest.mark.parametrize("field", ["note", "is_open", "seen", "device", "extra"])
def test_a_column_without_numbers_has_no_mean(backend: Any, field: str) -> None:
    raises(lambda: backend.aggregate(WeatherStationReading, field), field, "numbers")


def test_only_columns_are_known(backend: Any) -> None:
    model = WeatherStationReading
    for wrong in ("nope", "device__name", "pk", "temperature; --", "", "odd name, select", 5, None):
        if wrong is not None:
            raises(lambda: backend.aggregate(model, wrong))  # noqa: B023
        raises(lambda: backend.aggregate(model, "order", group_by=[wrong]))  # noqa: B023
        raises(lambda: backend.aggregate(model, "order", tags={wrong: 1}))  # noqa: B023
        raises(lambda: backend.query_readings(model, fields=[wrong]))  # noqa: B023
        raises(lambda: backend.query_readings(model, order=wrong))  # noqa: B023
        raises(lambda: backend.query(model, fields=[wrong]))  # noqa: B023
    raises(lambda: backend.query_readings(model, fields=["nope"]), "temperature", "visitors")
    raises(lambda: backend.query_readings(model, order="note"), "numbers or times")
    raises(lambda: backend.aggregate(model, "order", group_by=["extra"]), "JSONField")


def test_values_that_a_column_cannot_have(backend: Any) -> None:
    model = WeatherStationReading
    for name, wrong in (
        ("order", "x"),
        ("order", 2**70),
        ("temperature", float("nan")),
        ("rain", "1e999999"),
        ("note", "a\0b"),
        ("note", "\ud800"),
        ("seen", datetime(2024, 1, 1)),
        ("device", "x"),
    ):
        raises(lambda: backend.aggregate(model, None, "count", tags={name: wrong}), name)  # noqa: B023
    raises(lambda: backend.query_readings(model, device="x"), "device")


@pytest.mark.parametrize("wrong", [Timeless, object, int, WeatherStationReading(), None, 5])
def test_what_is_no_model_of_readings(backend: Any, wrong: Any) -> None:
    raises(lambda: backend.query_readings(wrong))
    raises(lambda: backend.aggregate(wrong, "value"))
    raises(lambda: backend.query(wrong))


def test_naive_and_empty_windows_are_refused(backend: Any) -> None:
    naive = datetime(2024, 1, 1)
    raises(lambda: backend.query_readings(WeatherStationReading, start=naive), "naive")
    raises(lambda: backend.query_readings(WeatherStationReading, start=START, end=START), "before")
    raises(lambda: backend.query_readings(WeatherStationReading, limit=-1), "limit")


def test_the_app_is_not_installed() -> None:
    """So that a model which is nothing of ours is what is tested."""
    from django.apps import apps

    assert LABEL not in apps.app_configs
