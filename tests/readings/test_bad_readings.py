"""Exactly the reading that cannot be stored becomes a dead letter, and says why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from readings.conftest import Storage
from readings.station.models import MeterReading, Page, Visit, WeatherStationReading
from tailrace.django_integration.models import DeadLetter, Device, Event
from tailrace.pipeline import record_model, store_reading

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
GOOD = {"temperature": 20.5}

BAD_DATA: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({**GOOD, "temprature": 1.0}, "has no field 'temprature'; it has: extra"),
    "a hostile field": ({**GOOD, 'x"); DROP TABLE t; --': 1}, "has no field 'x\"); DROP TABLE t"),
    "the key": ({**GOOD, "id": 7}, "has no field 'id'"),
    "the device as a field": ({**GOOD, "device_id": 7}, "has no field 'device_id'"),
    "text for a number": ({"temperature": "20.5"}, "temperature is '20.5', and must be a finite"),
    "a boolean for a number": ({"temperature": True}, "temperature is True, and must be a finite"),
    "a fraction for an integer": ({**GOOD, "gusts": 2.5}, "gusts is 2.5, and must be an integer"),
    "a number for text": ({**GOOD, "note": 5}, "note is 5, and must be text"),
    "a number for a boolean": ({**GOOD, "is_raining": 2}, "is_raining is 2, and must be true"),
    "text for a time": ({**GOOD, "sunrise": "early"}, "sunrise is 'early', and must be a date"),
    "a naive time": ({**GOOD, "sunrise": datetime(2024, 1, 1)}, "has no time zone"),
    "a time beyond years": (
        {**GOOD, "sunrise": datetime.max.replace(tzinfo=UTC).isoformat()[:-6] + "-14:00"},
        "which no database holds",
    ),
    "nothing that is required": ({"humidity": 1.0}, "temperature is missing, and must have"),
    "None for what is required": ({"temperature": None}, "temperature has no value"),
    "an integer beyond the column": ({**GOOD, "gusts": 40_000}, "must be from -32768 to 32767"),
    "an integer beyond 64 bits": ({**GOOD, "visitors": 2**63}, "'visitors' is an integer of 64"),
    "NaN": ({"temperature": float("nan")}, "field 'temperature' is nan"),
    "too many digits": ({**GOOD, "pressure": Decimal("123456.7")}, "at most 7 digits, 2 of them"),
    "a NUL": ({**GOOD, "note": "a\0b"}, "field 'note' has a NUL in it"),
    "a NUL in JSON": ({**GOOD, "extra": {"a": ["x\0"]}}, "extra cannot be stored as json: it has"),
    "too long a text": ({**GOOD, "note": "x" * 21}, "has 21 characters, and may have 20"),
    "an object": ({**GOOD, "note": object()}, "is a object; fields are numbers"),
    "an object in JSON": ({**GOOD, "extra": {"a": object()}}, "'extra' cannot be stored as json"),
}


@pytest.mark.parametrize("case", list(BAD_DATA))
def test_bad_data(storage: Storage, case: str) -> None:
    data, reason = BAD_DATA[case]
    device = storage.device()
    for minute in range(5):
        store_reading(WeatherStationReading, device, NOON + timedelta(minutes=minute), GOOD)
    store_reading(WeatherStationReading, device, NOON, data)
    store_reading(WeatherStationReading, device, NOON + timedelta(minutes=5), GOOD)
    storage.settle()
    (letter,) = DeadLetter.objects.all()
    assert reason in letter.reason
    assert letter.measurement == "weatherstation"
    assert WeatherStationReading.objects.count() == 6
    assert not Event.objects.filter(measurement="weatherstation").exists()


def bad_calls(device: Any) -> list[tuple[Any, Any, Any, str]]:
    gone, unsaved = Device(pk=2**40), Device(identifier="never saved")
    return [
        (gone, NOON, GOOD, "there is no device 1099511627776; it was deleted, or never saved"),
        (2**70, NOON, GOOD, "Ensure this value is less than or equal to"),
        ("x'; DROP TABLE tailrace_device; --", NOON, GOOD, "WeatherStationReading.device is"),
        (unsaved, NOON, GOOD, "it has no device, or one that was never saved"),
        (None, NOON, GOOD, "it has no device"),
        (device, datetime(2024, 1, 1), GOOD, "naive datetime 2024-01-01T00:00:00"),
        (device, "2024-01-01T00:00:00Z", GOOD, "the timestamp is '2024-01-01T00:00:00Z'"),
        (device, datetime(9999, 1, 1, tzinfo=UTC), GOOD, "outside of the years 1677 to 2262"),
        (device, datetime(1, 1, 1, tzinfo=UTC), GOOD, "outside of the years 1677 to 2262"),
        (device, NOON, None, "the values are None; pass a dict"),
        (device, NOON, "text", "the values are 'text'; pass a dict"),
    ]


def test_bad_calls(storage: Storage) -> None:
    device = storage.device()
    cases = bad_calls(device)
    for where, when, data, _ in cases:
        store_reading(WeatherStationReading, device, NOON, GOOD)
        store_reading(WeatherStationReading, where, when, data)
    storage.settle()
    letters = storage.reasons()
    assert len(letters) == len(cases)
    for *_, reason in cases:
        assert any(reason in told for told in letters), (reason, letters)
    assert WeatherStationReading.objects.count() == len(cases)


def test_a_device_that_was_deleted_costs_its_own_readings_only(storage: Storage) -> None:
    device, doomed = storage.device(), storage.device()
    for number in range(600):
        which = doomed if number % 3 == 0 else device
        store_reading(WeatherStationReading, which, NOON + timedelta(seconds=number), GOOD)
    doomed_pk = doomed.pk
    doomed.delete()
    storage.settle()
    assert WeatherStationReading.objects.count() == 400
    assert set(storage.reasons()) == {
        f"station.WeatherStationReading.device: there is no device {doomed_pk}; it was deleted, "
        "or never saved"
    }
    assert DeadLetter.objects.count() == 200


def test_duplicates_are_stored_unless_the_model_forbids_them(storage: Storage) -> None:
    device = storage.device()
    for _ in range(3):
        store_reading(WeatherStationReading, device, NOON, GOOD)
        store_reading(MeterReading, device, NOON, {"watts": 5})
    storage.settle()
    assert WeatherStationReading.objects.count() == 3
    assert MeterReading.objects.count() == 1
    assert DeadLetter.objects.filter(measurement="power.meter").count() == 2


def test_a_foreign_key_with_a_constraint(storage: Storage) -> None:
    """Databases check these at the commit, where nobody could tell which row it was."""
    page = Page.objects.create(path="/")
    for number in range(20):
        target = page.pk if number != 7 else page.pk + 1
        record_model(Visit, {"page": target, "day": NOON.date()})
    storage.settle()
    assert Visit.objects.count() == 19
    (reason,) = storage.reasons()
    assert f"station.Visit.page: there is no page {page.pk + 1}" in reason


def test_models_that_nobody_registered(storage: Storage) -> None:
    record_model(Page, {"path": "/"})
    record_model(dict, {"path": "/"})  # type: ignore[arg-type]
    store_reading("no model", 1, NOON, GOOD)  # type: ignore[arg-type]
    store_reading([], 1, NOON, GOOD)  # type: ignore[arg-type]
    storage.settle()
    reasons = storage.reasons()
    assert len(reasons) == 4
    assert "station.Page is not written behind: derive it from" in reasons[0]
    assert "is no Django model" in reasons[1]
    assert "'no model' is no Django model" in reasons[2]


def test_many_devices_are_no_overflow(storage: Storage) -> None:
    """Tags have few distinct values; devices do not."""
    devices = Device.objects.bulk_create(Device(identifier=f"many-{n}") for n in range(2_500))
    devices = list(Device.objects.all())
    for device in devices:
        store_reading(WeatherStationReading, device, NOON, GOOD)
    storage.settle()
    assert WeatherStationReading.objects.values("device").distinct().count() == 2_500
    assert not storage.reasons()
    assert Device.objects.filter(last_seen=NOON).count() == 2_500


def test_last_seen_moves_forward_only(storage: Storage) -> None:
    one, other = storage.device(), storage.device(last_seen=NOON + timedelta(days=1))
    silent = storage.device()
    for device in (one, other):
        for minute in (3, 9, 5):
            store_reading(WeatherStationReading, device, NOON + timedelta(minutes=minute), GOOD)
    storage.settle()
    store_reading(WeatherStationReading, one, NOON, GOOD)
    storage.settle()
    seen = dict(Device.objects.values_list("pk", "last_seen"))
    assert seen == {
        one.pk: NOON + timedelta(minutes=9),
        other.pk: NOON + timedelta(days=1),
        silent.pk: None,
    }
