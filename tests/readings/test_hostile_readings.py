"""Anything at all as a reading: stored, or a dead letter; never an exception, never a stray row."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from readings.conftest import Storage
from readings.station.models import Page, Visit, WeatherStationReading
from tailrace.backends.model_tables import table_of
from tailrace.django_integration.models import DeadLetter, Device
from tailrace.pipeline import record_model, store_reading
from tailrace.pipeline.event import DEVICE_TAG, Event

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
FIELDS = [
    *("temperature", "humidity", "pressure", "gusts", "visitors", "is_raining", "note"),
    *("sunrise", "extra"),
]
ODD = [
    *(None, True, False, 0, 1, -1, 2.5, -0.0, 1e300, float("inf"), float("nan"), 2**31, 2**63),
    *(-(2**63), -(2**63) - 1, 10**40, "", "a\0b", "\ud800", "x" * 30, "1", "NaN", "null", "[1]"),
    *('"', "'; DROP TABLE tailrace_device; --", "2024-01-01T00:00:00Z", "2024-02-30", "\\x00"),
    *(b"\0", Decimal("1.5"), Decimal("NaN"), Decimal("sNaN"), Decimal("1e999"), [], {}, {"a": 1}),
    *(
        [float("nan")],
        {"\0": 1},
        {1: 2},
        {"a": "\ud800"},
        object(),
        NOON,
        NOON.replace(tzinfo=None),
    ),
    *(date(1, 1, 1), datetime.max, timedelta.max, (1,), {1}, lambda: 1, Exception("x"), int),
]
NAMES = [
    *FIELDS,
    "id",
    "pk",
    "device",
    "device_id",
    "timestamp",
    "",
    "x" * 200,
    "a\0",
    "%s",
    '"; --',
]


def test_two_thousand_odd_readings(storage: Storage) -> None:
    """Each is one event: stored, or one dead letter; the good ones among them are all there."""
    devices = [storage.device().pk for _ in range(3)]
    chance = random.Random(11)
    good = 0
    for number in range(2_000):
        when: Any = NOON + timedelta(seconds=number)
        if number % 2:
            store_reading(WeatherStationReading, devices[number % 3], when, {"temperature": 7.5})
            good += 1
            continue
        names = chance.sample(NAMES, chance.randint(1, 3))
        data: Any = {"temperature": 1.0, **{name: chance.choice(ODD) for name in names}}
        where = chance.choice([*devices, *devices, chance.choice(ODD)])
        when = when if chance.random() < 0.9 else chance.choice(ODD)
        store_reading(WeatherStationReading, where, when, data)
    storage.settle()
    rows = WeatherStationReading.objects.count()
    letters = DeadLetter.objects.filter(measurement="weatherstation").count()
    assert rows + letters == 2_000
    assert WeatherStationReading.objects.filter(temperature=7.5).count() >= good
    assert letters > 200
    assert Device.objects.count() == 3
    assert all(DeadLetter.objects.values_list("reason", flat=True))


def test_odd_rows_of_another_model(storage: Storage) -> None:
    page = Page.objects.create(path="/")
    chance = random.Random(12)
    names = ["key", "page", "day", "at", "took", "price", "body", "details", "address", "nix"]
    for number in range(400):
        values: dict[str, Any] = {"page": page.pk, "day": NOON.date()}
        if number % 2:
            values[chance.choice(names)] = chance.choice(ODD)
        record_model(Visit, values)
    storage.settle()
    letters = DeadLetter.objects.filter(measurement="station.visit").count()
    assert Visit.objects.count() + letters == 400
    assert Visit.objects.count() >= 200
    assert letters > 50


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    fields=st.dictionaries(
        st.sampled_from(FIELDS) | st.text(max_size=20),
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats()
        | st.text(max_size=40),
        max_size=4,
    ),
    device=st.text(max_size=20) | st.integers().map(str),
)
def test_a_row_or_a_reason(fields: dict[str, Any], device: str) -> None:
    event = Event("weatherstation", 0, {DEVICE_TAG: device}, {"temperature": 1.0, **fields})
    table = table_of(WeatherStationReading)
    try:
        row = table.row(event)
    except ValueError as error:
        reason = str(error)
    else:
        reason = "WeatherStationReading" * (len(row) == len(table.fields))
    assert "WeatherStationReading" in reason


@pytest.mark.parametrize("text", ["a\ud800b", "a\0b"])
def test_text_from_the_wire_is_checked_again(text: str) -> None:
    """A frame may come from another version, which let it through."""
    event = Event("weatherstation", 0, {DEVICE_TAG: "1"}, {"temperature": 1.0, "note": text})
    with pytest.raises(ValueError, match=r"WeatherStationReading\.note has"):
        table_of(WeatherStationReading).row(event)
