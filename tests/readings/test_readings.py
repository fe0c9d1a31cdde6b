"""Readings and other rows in their own tables: what goes in comes out, on every backend."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections, transaction

from readings.conftest import Storage
from readings.station.models import MeterReading, Page, Visit, WeatherStationReading
from tailrace.backends.memory import MemoryBackend
from tailrace.backends.model_copy import model_copy
from tailrace.backends.model_tables import table_of
from tailrace.backends.null import NullBackend
from tailrace.django_integration.models import Device
from tailrace.pipeline import record, record_model, store_reading, suppress_recording
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.errors import (
    BackendMisconfigured,
    NotSupportedByBackend,
    RejectedEvents,
    TransientBackendError,
)

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
ODD = NOON.replace(microsecond=123_457)
VALUES: dict[str, Any] = {
    "temperature": 25.3,
    "humidity": 7,
    "pressure": Decimal("1013.25"),
    "gusts": -32768,
    "visitors": 2**63 - 1,
    "is_raining": True,
    "note": "über 🌊",
    "sunrise": datetime(2024, 5, 15, 5, 3, tzinfo=timezone(timedelta(hours=2))),
    "extra": {"list": [1, 2.5, None, "\\u0000 is text"], "b": {"c": True}},
}
STORED = {**VALUES, "humidity": 7.0}


def test_every_type_comes_back_as_it_was(storage: Storage) -> None:
    device = storage.device()
    store_reading(WeatherStationReading, device, ODD, VALUES)
    store_reading(WeatherStationReading, device.pk, NOON, {"temperature": 4})
    storage.settle()
    assert storage.reasons() == []
    full, bare = WeatherStationReading.objects.order_by("-timestamp")
    assert {name: getattr(full, name) for name in STORED} == STORED
    assert (full.device_id, full.timestamp) == (device.pk, ODD)
    defaults = {name: getattr(bare, name) for name in ("temperature", "note", "is_raining")}
    assert defaults == {"temperature": 4.0, "note": "", "is_raining": False}
    assert bare.extra is None
    assert bare.pressure is None


def test_another_model_is_written_behind_too(storage: Storage) -> None:
    page = Page.objects.create(path="/")
    key = uuid.uuid4()
    values: dict[str, Any] = {
        "key": key,
        "page": page.pk,
        "day": date(2024, 2, 29),
        "at": clock(13, 37, 0, 1),
        "took": timedelta(days=3, microseconds=7),
        "price": Decimal("12345.0123456789"),
        "body": bytes(range(256)),
        "details": ["a", {"b": None}],
        "address": "2001:db8::1",
    }
    record_model(Visit, values)
    record_model(Visit, {"page": page, "day": date(1, 1, 1)}, time=NOON)
    before = datetime.now(UTC)
    storage.settle()
    assert storage.reasons() == []
    visit = Visit.objects.get(key=key)
    found = {name: getattr(visit, name) for name in values if name not in ("page", "body")}
    assert found == {name: value for name, value in values.items() if name in found}
    assert bytes(visit.body) == values["body"]
    assert before <= visit.stored_at <= datetime.now(UTC)
    assert Visit.objects.exclude(key=key).get().page == page


def test_what_is_copied_and_what_is_not(storage: Storage) -> None:
    """If this fails after a type was added: a type that COPY does not know is no error."""
    if connections[storage.alias].vendor != "postgresql":
        pytest.skip("of PostgreSQL: SQLite's columns have no types, and nothing copies into them")
    assert model_copy(table_of(WeatherStationReading), storage.alias) is not None
    assert model_copy(table_of(Visit), storage.alias) is None, "inet has no packer"


def test_query_and_aggregate_over_what_was_stored(storage: Storage) -> None:
    device, other = storage.device(), storage.device()
    for minute in range(120):
        which = other if minute % 2 else device
        store_reading(
            WeatherStationReading, which, NOON + timedelta(minutes=minute), {"temperature": minute}
        )
    storage.settle()
    rows = storage.backend.query_readings(
        WeatherStationReading, device, start=NOON, fields=["temperature"], limit=2
    )
    assert rows == [
        {"device_id": device.pk, "timestamp": NOON + timedelta(minutes=118), "temperature": 118.0},
        {"device_id": device.pk, "timestamp": NOON + timedelta(minutes=116), "temperature": 116.0},
    ]
    hours = storage.backend.aggregate(WeatherStationReading, "temperature", "max", interval="1h")
    assert [row["result"] for row in hours] == [59.0, 119.0]
    by_name = storage.backend.aggregate("weatherstation", "temperature", "max", interval="1h")
    assert by_name == hours
    (newest,) = storage.backend.query("weatherstation", limit=1)
    assert newest["measurement"] == "weatherstation"
    assert newest["tags"] == {"device_id": str(other.pk)}


def test_late_readings_are_stored(storage: Storage) -> None:
    device = storage.device()
    times = [NOON, NOON - timedelta(days=400), NOON + timedelta(days=400)]
    for moment in times:
        store_reading(WeatherStationReading, device, moment, {"temperature": 1})
    storage.settle()
    assert set(WeatherStationReading.objects.values_list("timestamp", flat=True)) == set(times)


def test_the_event_beside_a_reading(storage: Storage) -> None:
    store_reading(WeatherStationReading, storage.device(), NOON, {"temperature": 1})
    record("checkout", fields={"amount": 2})
    storage.settle()
    assert WeatherStationReading.objects.count() == 1
    assert len(storage.backend.query("checkout")) == 1


# --- at once


def test_stored_now(storage: Storage) -> None:
    device = storage.device()
    storage.backend.store_reading(WeatherStationReading, device, ODD, VALUES)
    reading = WeatherStationReading.objects.get()
    assert {name: getattr(reading, name) for name in STORED} == STORED
    device.refresh_from_db()
    assert device.last_seen == ODD


@pytest.mark.parametrize(
    ("when", "data", "words"),
    [
        (NOON, {"temprature": 1}, "has no field 'temprature'"),
        (NOON, {"temperature": "1"}, "must be a finite number"),
        (NOON, {"temperature": float("inf")}, "must be a finite number"),
        (NOON, {"temperature": 1, "note": "a\0"}, "has a NUL"),
        (NOON, {"temperature": 1, "visitors": 2**63}, "must be from"),
        (NOON, {}, "temperature is missing"),
        (datetime(2024, 1, 1), {"temperature": 1}, "naive datetime"),
        ("now", {"temperature": 1}, "pass an aware datetime"),
    ],
)
def test_refused_now(storage: Storage, when: Any, data: dict[str, Any], words: str) -> None:
    device = storage.device()
    with pytest.raises(ValueError, match=words):
        storage.backend.store_reading(WeatherStationReading, device, when, data)
    assert not WeatherStationReading.objects.exists()


def test_refused_now_by_the_database(storage: Storage) -> None:
    device = storage.device()
    with pytest.raises(ValueError, match="there is no device"):
        storage.backend.store_reading(MeterReading, device.pk + 1, NOON, {"watts": 1})
    with pytest.raises(ValueError, match="no model of readings"):
        storage.backend.store_reading(Visit, device, NOON, {})
    storage.backend.store_reading(MeterReading, device, NOON, {"watts": 1})
    with pytest.raises(RejectedEvents):
        storage.backend.store_reading(MeterReading, device, NOON, {"watts": 2})
    assert MeterReading.objects.get().watts == 1


def test_a_rollback_of_the_host_undoes_no_reading(storage: Storage) -> None:
    device = storage.device()
    with transaction.atomic(using=storage.alias):
        storage.backend.store_reading(WeatherStationReading, device, NOON, {"temperature": 1})
        transaction.set_rollback(True, using=storage.alias)
    assert WeatherStationReading.objects.count() == 1


def test_deleting(storage: Storage) -> None:
    device, other = storage.device(), storage.device()
    for hour in range(4):
        for which in (device, other):
            storage.backend.store_reading(
                WeatherStationReading, which, NOON + timedelta(hours=hour), {"temperature": hour}
            )
    delete = storage.backend.delete_readings
    assert delete(WeatherStationReading, device, end=NOON + timedelta(hours=1)) == 1
    assert delete(WeatherStationReading, start=NOON + timedelta(hours=3)) == 2
    assert WeatherStationReading.objects.count() == 5
    with pytest.raises(ValueError, match="is not before end"):
        delete(WeatherStationReading, start=NOON, end=NOON)
    assert delete(WeatherStationReading) == 5
    assert delete(WeatherStationReading) == 0


def test_health(storage: Storage) -> None:
    health = storage.backend.health_check()
    assert health["status"] == "pass"
    assert health["version"].startswith(("SQLite 3.", "PostgreSQL 1"))
    nowhere = type(storage.backend)("x", {"ALIAS": "nowhere"}).health_check()
    assert nowhere["status"] == "fail"
    assert "nowhere" in nowhere["message"]


def test_a_table_that_is_not_as_the_model_says_stops_the_backend(storage: Storage) -> None:
    device = storage.device()
    with connections[storage.alias].schema_editor() as editor:
        editor.alter_db_table(MeterReading, "station_meterreading", "station_elsewhere")
    try:
        store_reading(MeterReading, device, NOON, {"watts": 1})
        with pytest.raises(BackendMisconfigured, match=r"manage\.py migrate station"):
            storage.settle()
    finally:
        with connections[storage.alias].schema_editor() as editor:
            editor.alter_db_table(MeterReading, "station_elsewhere", "station_meterreading")
    storage.settle()
    assert MeterReading.objects.count() == 1


@pytest.mark.parametrize("kind", ["bigint", "double precision", "numeric", "text"])
def test_a_column_of_another_type_gets_the_value_and_not_its_bytes(
    storage: Storage, kind: str
) -> None:
    """Between a deployment and its migration; a binary COPY would store nonsense."""
    if connections[storage.alias].vendor != "postgresql":
        pytest.skip("of PostgreSQL: SQLite's columns have no types, and nothing copies into them")
    with connections[storage.alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE station_weatherstationreading ALTER visitors TYPE {kind}")
        cursor.execute("ALTER TABLE station_weatherstationreading ALTER temperature TYPE numeric")
    data = {"temperature": 2.5, "visitors": 7}
    store_reading(WeatherStationReading, storage.device(), NOON, data)
    storage.settle()
    with connections[storage.alias].cursor() as cursor:
        cursor.execute("SELECT visitors, temperature FROM station_weatherstationreading")
        ((visitors, temperature),) = cursor.fetchall()
        cursor.execute(
            "ALTER TABLE station_weatherstationreading ALTER visitors TYPE bigint USING "
            "visitors::bigint, ALTER temperature TYPE double precision"
        )
    assert (float(visitors), float(temperature)) == (7.0, 2.5)
    assert storage.reasons() == []


def test_two_drainers_and_the_same_devices_never_lock_each_other_out(storage: Storage) -> None:
    devices = list(Device.objects.bulk_create(Device(identifier=f"ring-{n}") for n in range(40)))
    devices = list(Device.objects.all())
    backend = storage.backend
    errors: list[BaseException] = []

    def drain(shard: int, order: list[Any]) -> None:
        from tailrace.backends.private_connection import close_private_connections
        from tailrace.backends.readings import reading_event

        try:
            backend.create_checkpoint(Checkpoint(shard))
            for round_ in range(15):
                moment = NOON + timedelta(seconds=round_ * 2 + shard)
                events = [
                    reading_event(WeatherStationReading, device, moment, {"temperature": 1})
                    for device in order
                ]
                with backend.transaction(shard) as tx:
                    tx.write(events)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)
        finally:
            close_private_connections()
            connections[storage.alias].close()

    threads = [
        threading.Thread(target=drain, args=(10, devices)),
        threading.Thread(target=drain, args=(11, devices[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    waits = [error for error in errors if not isinstance(error, TransientBackendError)]
    assert not waits
    if connections[storage.alias].vendor == "postgresql":
        assert not errors
        assert WeatherStationReading.objects.count() == 2 * 15 * 40
        latest = NOON + timedelta(seconds=14 * 2 + 11)
        assert set(Device.objects.values_list("last_seen", flat=True)) == {latest}


# --- without a database


def test_memory_has_the_same_readings() -> None:
    backend = MemoryBackend()
    backend.store_reading(WeatherStationReading, 5, ODD, VALUES)
    backend.store_reading(WeatherStationReading, 6, NOON, {"temperature": 1})
    (row,) = backend.query_readings(WeatherStationReading, device=5)
    assert row == {"device_id": 5, "timestamp": ODD, **STORED}
    assert backend.aggregate(WeatherStationReading, "temperature", "count") == {"result": 2}
    assert backend.aggregate("weatherstation", "temperature", "max", device=6) == {"result": 1}
    with pytest.raises(ValueError, match="has no field"):
        backend.store_reading(WeatherStationReading, 5, NOON, {"x": 1})
    assert backend.delete_readings(WeatherStationReading, device=5) == 1
    assert backend.delete_readings(WeatherStationReading) == 1
    assert backend.health_check()["status"] == "pass"


def test_a_backend_that_cannot_says_so() -> None:
    backend = NullBackend()
    for call in (
        lambda: backend.store_reading(WeatherStationReading, 5, NOON, {}),
        lambda: backend.delete_readings(WeatherStationReading),
        backend.health_check,
    ):
        with pytest.raises(NotSupportedByBackend, match="DatabaseBackend"):
            call()


# --- the price, and the places where nothing may be recorded


def test_store_reading_costs_what_record_costs(
    storage: Storage, recorded: Callable[[], list[Any]]
) -> None:
    """Both append; the bound is wide, because the machine has other things to do."""
    device = storage.device()
    data = {"temperature": 20.5, "humidity": 40.0}

    def best(call: Callable[[], None]) -> float:
        times = []
        for _ in range(20):
            started = time.perf_counter()
            for _ in range(200):
                call()
            times.append((time.perf_counter() - started) / 200)
            recorded()
        return min(times)

    plain = best(lambda: record("checkout", fields=data))
    reading = best(lambda: store_reading(WeatherStationReading, device, NOON, data))
    print(f"record() {plain * 1e6:.2f} us, store_reading() {reading * 1e6:.2f} us")
    assert reading < 8 * plain + 5e-6


def test_suppressed(storage: Storage, recorded: Callable[[], list[Any]]) -> None:
    device = storage.device()
    recorded()
    with suppress_recording():
        store_reading(WeatherStationReading, device, NOON, {"temperature": 1})
        record_model(Visit, {})
    assert recorded() == []


def test_the_caller_may_change_its_dict(storage: Storage) -> None:
    data = {"temperature": 1.0}
    store_reading(WeatherStationReading, storage.device(), NOON, data)
    data["temperature"] = 2.0
    storage.settle()
    assert WeatherStationReading.objects.get().temperature == 1.0
