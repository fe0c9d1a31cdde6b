"""Readings on a real InfluxDB: asked by model, deleted by device and window, as in memory."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from influx.conftest import MakeBackend
from influx.fake_server import FakeInflux
from readings.station.models import MeterReading, WeatherStationReading

from tailrace.backends.memory import MemoryBackend
from tailrace.backends.testing.reading_data import make
from tailrace.backends.testing.reading_tools import ReaderTools, raises
from tailrace.pipeline.event import Event

START = datetime(2024, 3, 30, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
FUNCTIONS = ("avg", "min", "max", "sum", "count", "p50", "p75", "p90", "p95", "p99")
WHOLE_NUMBERS = ("gusts", "visitors")


def _fields(generator: random.Random, number: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"temperature": generator.uniform(-20, 40)}
    if number % 3:
        fields["humidity"] = generator.choice([generator.random(), 7])
    if number % 4:
        fields["pressure"] = generator.choice([1013.25, "1000.10"])
    if number % 5:
        fields |= {"gusts": generator.randrange(-300, 300), "visitors": generator.randrange(2**62)}
    if number % 2:
        fields |= {"note": generator.choice(["", "a", "A", "é", 'b" \\']), "is_raining": True}
    if number % 7 == 0:
        fields |= {"extra": '{"x": [1, null]}', "gusts": None}
    return fields


def readings() -> list[Event]:
    generator = random.Random(11)
    made = []
    for number in range(90):
        moment = START + number * 17 % 50 * HOUR / 2 + number % 3 * MICROSECOND
        tags = {"device_id": str(number % 3 + 1)}
        made.append(make("weatherstation", moment, tags, _fields(generator, number)))
    return made


class _Stored(ReaderTools):
    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def make_backend(self) -> Any:
        return self.backend


@pytest.fixture
def pair(real_backend: MakeBackend) -> tuple[Any, Any]:
    """An InfluxDB and a memory with the same readings."""
    backends = real_backend(), MemoryBackend()
    others = [make("power.meter", START, {"device_id": "1"}, {"watts": 3})]
    for backend in backends:
        _Stored(backend).stored(*readings(), *others)
    return backends


def without_key(rows: Any) -> Any:
    """Return rows without what only tables have: numbers as keys."""
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]


def same(found: Any, right: Any) -> None:
    """Check that answers are alike, in types too; floats are added up in another order."""
    rows, others = (each if isinstance(each, list) else [each] for each in (found, right))
    assert [{**row, "result": None} for row in rows] == [{**row, "result": None} for row in others]
    for row, other in zip(rows, others, strict=True):
        assert type(row["result"]) is type(other["result"]), (row, other)
        if isinstance(other["result"], float):
            assert row["result"] == pytest.approx(other["result"], rel=1e-12)
        else:
            assert row["result"] == other["result"]


def test_rows_are_those_of_the_memory(pair: tuple[Any, Any]) -> None:
    influx, memory = pair
    model = WeatherStationReading
    for options in (
        {},
        {"device": 2, "limit": 3},
        {"order": "timestamp", "limit": 10, "fields": ["visitors", "pressure"]},
        {"order": "-temperature", "limit": 5},
        {"order": "device_id", "start": START + HOUR, "end": START + 5 * HOUR},
        {"device": 99},
        {"limit": 0},
    ):
        found = influx.query_readings(model, **options)
        right = memory.query_readings(model, **options)
        assert found == right, options
        kinds = [[type(value) for value in row.values()] for row in found]
        assert kinds == [[type(value) for value in row.values()] for row in right]


def test_a_model_can_be_queried_like_a_measurement(pair: tuple[Any, Any]) -> None:
    influx, memory = pair
    for options in (
        {"limit": 7},
        {"tags": {"device": 3}, "limit": 2, "order": "time", "fields": ["note"]},
        {"tags": {"note": ["é", ""]}, "limit": 4},
        {"trace_id": "x"},
    ):
        found = influx.query(WeatherStationReading, **options)
        assert without_key(found) == without_key(memory.query(WeatherStationReading, **options))


@pytest.mark.parametrize("field", ["temperature", "humidity", *WHOLE_NUMBERS, "pressure"])
def test_functions_of_columns(pair: tuple[Any, Any], field: str) -> None:
    influx, memory = pair
    for function in FUNCTIONS:
        for options in (
            {},
            {"interval": "day", "tz": "Europe/Berlin", "group_by": ["device"]},
            {"device": 2, "interval": "6 hours"},
            {"tags": {"is_raining": True}, "group_by": ["note"]},
        ):
            arguments = (WeatherStationReading, field, function)
            found = influx.aggregate(*arguments, **options)
            right = memory.aggregate(*arguments, **options)
            if field == "humidity" and function in ("min", "max", "sum"):
                assert {type(row["result"]) for row in _listed(found)} == {float}
            same(found, right)


def _listed(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [answer]


def test_counts_of_rows_and_of_any_column(pair: tuple[Any, Any]) -> None:
    influx, memory = pair
    for field in (None, "note", "extra", "is_raining", "device"):
        arguments = (WeatherStationReading, field, "count")
        right = memory.aggregate(*arguments)
        assert influx.aggregate(*arguments) == right
        grouped = influx.aggregate(*arguments, group_by=["device_id"])
        assert grouped == memory.aggregate(*arguments, group_by=["device_id"])
        assert all(type(row["device_id"]) is int for row in grouped)


def test_sums_of_decimals_are_decimals(pair: tuple[Any, Any]) -> None:
    influx, memory = pair
    found = influx.aggregate(WeatherStationReading, "pressure", "sum")["result"]
    assert type(found) is Decimal
    assert found == memory.aggregate(WeatherStationReading, "pressure", "sum")["result"]


def test_only_columns_are_known(pair: tuple[Any, Any]) -> None:
    influx, _ = pair
    raises(lambda: influx.aggregate(WeatherStationReading, "nope"), "temperature")
    raises(lambda: influx.query_readings(WeatherStationReading, order="note"), "numbers")
    raises(lambda: influx.delete_readings(WeatherStationReading, device="x"), "device")


@pytest.mark.parametrize(
    ("device", "start", "end"),
    [
        (None, None, None),
        (2, None, None),
        (None, START + HOUR, START + HOUR + MICROSECOND),
        (1, START + HOUR, None),
        (3, None, START + 7 * HOUR + MICROSECOND),
        (99, None, None),
    ],
)
def test_deletes_are_those_of_the_memory(
    pair: tuple[Any, Any], device: Any, start: Any, end: Any
) -> None:
    influx, memory = pair
    deleted = influx.delete_readings(WeatherStationReading, device, start, end)
    assert deleted == memory.delete_readings(WeatherStationReading, device, start, end)
    left = influx.query_readings(WeatherStationReading)
    assert left == memory.query_readings(WeatherStationReading)
    assert influx.delete_readings(WeatherStationReading, device, start, end) == 0
    assert len(influx.query(MeterReading)) == 1


def test_a_window_ends_before_the_microsecond_of_its_end(real_backend: MakeBackend) -> None:
    """Though points of one microsecond differ in digits below, and deletes include their end."""
    events = [
        make("weatherstation", START + n * MICROSECOND, {"device_id": "1"}, {"temperature": 1.0})
        for n in (0, 0, 1, 1, 1, 2, 2)
    ]
    backend = real_backend()
    _Stored(backend).stored(*events)
    end = START + 2 * MICROSECOND
    assert backend.delete_readings(WeatherStationReading, 1, START + MICROSECOND, end) == 3
    left = backend.query_readings(WeatherStationReading, order="timestamp")
    assert [row["timestamp"] for row in left] == [START, START, end, end]


def test_a_server_that_cannot_be_read_says_so(
    fake_backend: MakeBackend, fake_influx: FakeInflux
) -> None:
    from tailrace.pipeline.errors import BackendError

    backend = fake_backend()
    fake_influx.close()
    with pytest.raises(BackendError, match="InfluxDB"):
        backend.query_readings(WeatherStationReading)
