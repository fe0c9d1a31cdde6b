"""Chunks of events go as a whole, by the same rules as partitions; readings wait for rollups."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from readings.station.models import MeterReading

from tailrace.backends.private_connection import close_private_connections
from tailrace.backends.registry import backends
from tailrace.backends.retention import slices
from tailrace.backends.retention import sweep as sweep_module
from tailrace.backends.rollups.declared import register_rollup, unregister_rollup
from tailrace.backends.timescale import TimescaleDBBackend
from tailrace.backends.timescaledb.chunks import joined
from tailrace.backends.written_models import _by_measurement
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Event, ns_from_datetime
from tailrace.pipeline.retention import Policy, RetentionConfig

from .conftest import Weather

DAY = timedelta(days=1)
TODAY = datetime(2024, 2, 29, tzinfo=UTC)
_positions = itertools.count(1)


class HereRouter:
    """Sends the app to the alias under test."""

    alias = ""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.alias if model._meta.app_label == "station" else None

    db_for_write = db_for_read


@pytest.fixture
def backend(
    weather: Weather, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TimescaleDBBackend]:
    """A backend at noon of a day, with no rollup but those of the test."""
    HereRouter.alias = weather.alias
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "readings.station"]
    settings.DATABASE_ROUTERS = [HereRouter()]
    _by_measurement.cache_clear()  # the app is installed for the test only
    monkeypatch.setattr(slices, "_sleep", lambda seconds: None)
    monkeypatch.setattr(sweep_module, "_utc_now", lambda: TODAY + DAY / 2)
    known = backends._config
    no_rollups = dict.fromkeys(("requests", "queries", "exceptions", "jobs"), False)
    backends.configure(lambda: Config(rollups=no_rollups))
    made = TimescaleDBBackend("default", {"ALIAS": weather.alias})
    made.setup()
    made.create_checkpoint(Checkpoint(0))
    yield made
    backends.configure(known)
    _by_measurement.cache_clear()
    close_private_connections(weather.alias)


def store(backend: TimescaleDBBackend, measurement: str, ages: Any, **tags: str) -> None:
    times = [TODAY - age * DAY + timedelta(hours=1) for age in ages]
    events = [
        Event(measurement, ns_from_datetime(time), tags, {"n": 1}, id=uuid.uuid4().bytes)
        for time in times
    ]
    with backend.transaction(0) as tx:
        tx.write(events)
        position = f"{next(_positions)}-0"
        tx.advance(Checkpoint(0, position, "e", tx.checkpoint.created_ns), [])


def ages(backend: TimescaleDBBackend, measurement: str) -> list[int]:
    rows = apps.get_model("tailrace", "Event")._base_manager.using(backend.get_db_alias())
    times = rows.filter(measurement=measurement).order_by("-time").values_list("time", flat=True)
    return [(TODAY + DAY - time) // DAY for time in times]


def chunks(backend: TimescaleDBBackend) -> list[int]:
    """Return the ages of the days that have a chunk, ascending."""
    return sorted((TODAY - low) // DAY for low, _ in backend.event_spans())


def sweep(backend: TimescaleDBBackend, **entries: Any) -> Any:
    policies = {
        name: Policy.make(name, RetentionConfig(**entry) if isinstance(entry, dict) else entry)
        for name, entry in entries.items()
    }
    return backend.sweep(policies, seconds=30)


def test_chunks_go_where_all_in_them_is_due(backend: TimescaleDBBackend) -> None:
    store(backend, "request", range(10))
    store(backend, "checkout", [7, 9])
    assert chunks(backend) == list(range(10))
    report = sweep(backend, request="5 days")
    assert len(report.dropped) == 2, "those of the days 6 and 8"
    assert chunks(backend) == [0, 1, 2, 3, 4, 5, 7, 9]
    assert ages(backend, "request") == [0, 1, 2, 3, 4]
    assert ages(backend, "checkout") == [7, 9]
    assert report.rows == {"request": 3}, "in slices, of the days 5, 7 and 9"
    sweep(backend, request="5 days", checkout="8 days")
    assert chunks(backend) == [0, 1, 2, 3, 4, 5, 7]
    assert ages(backend, "checkout") == [7]


def test_a_hold_keeps_chunks(backend: TimescaleDBBackend) -> None:
    store(backend, "request", range(8))
    store(backend, "request", [7], tenant="acme")
    report = sweep(backend, request={"drop_after": "5 days", "hold": {"tenant": ("acme",)}})
    assert report.dropped == []
    assert ages(backend, "request") == [0, 1, 2, 3, 4, 7]


def test_chunks_wait_for_a_rollup(
    backend: TimescaleDBBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(backend, "request", range(8))
    register_rollup("calls", "request", fields=("n",), widths=("1 day",))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(backend, "refresh_before", lambda *args: None)
            report = sweep(backend, request="5 days")
        assert (report.dropped, report.rows) == ([], {})
        assert "request" in report.waits
        report = sweep(backend, request="5 days")
        buckets = apps.get_model("tailrace", "RollupBucket")._base_manager
        counts = buckets.using(backend.get_db_alias()).filter(field="").values_list("count")
        assert sum(count for (count,) in counts) == 2, "what was to go is computed first"
    finally:
        unregister_rollup("calls")
    assert len(report.dropped) == 2
    assert ages(backend, "request") == [0, 1, 2, 3, 4, 5], "its floor is between two buckets"


def test_readings_under_a_rollup_go_by_our_sweep(
    backend: TimescaleDBBackend, weather: Weather
) -> None:
    """TimescaleDB's own policy would not wait; so there is none of it."""
    call_command("migrate", "station", database=weather.alias, verbosity=0)
    assert MeterReading._meta.db_table in backend.ensure_hypertables()
    _add_meters(weather.alias, 1, 10, 40, 50)
    backend.create_retention_policy(MeterReading, "30 days")
    assert _native_policies(weather) == 1
    register_rollup("power", MeterReading._meta.label, fields=("watts",), widths=("1 hour",))
    try:
        backend.create_retention_policy(MeterReading, "30 days")
        assert _native_policies(weather) == 0
        report = sweep(backend)
        assert report.waits == {}
        assert report.rows == {MeterReading._meta.label: 2}
        times = MeterReading.objects.using(weather.alias).values_list("timestamp", flat=True)
        assert sorted((TODAY - time).days for time in times) == [1, 10]
        buckets = apps.get_model("tailrace", "RollupBucket")._base_manager.using(weather.alias)
        assert buckets.filter(field="watts").count() == 2
        assert backend.remove_retention_policy(MeterReading) is True
        assert backend.remove_retention_policy(MeterReading) is False
    finally:
        unregister_rollup("power")


def test_spans_are_joined() -> None:
    days = [(TODAY + number * DAY, TODAY + (number + 1) * DAY) for number in range(6)]
    assert joined([]) == []
    assert joined(days) == [(TODAY, TODAY + 6 * DAY)]
    assert joined([*days[:2], days[3], *days[5:]]) == [
        (TODAY, TODAY + 2 * DAY),
        (TODAY + 3 * DAY, TODAY + 4 * DAY),
        (TODAY + 5 * DAY, TODAY + 6 * DAY),
    ]


def _add_meters(alias: str, *ages: int) -> None:
    devices = apps.get_model("tailrace", "Device")._base_manager.using(alias)
    meter = devices.create(identifier="meter")
    for age in ages:
        MeterReading.objects.using(alias).create(
            device=meter, timestamp=TODAY - age * DAY, watts=age
        )


def _native_policies(weather: Weather) -> int:
    ((count,),) = weather.sql(
        "SELECT count(*) FROM timescaledb_information.jobs "
        "WHERE proc_name = 'policy_retention' AND hypertable_name = %s",
        MeterReading._meta.db_table,
    )
    return int(count)
