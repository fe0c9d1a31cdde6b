"""create_retention_policy() and what it does to a model's readings; raw messages, too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command

from tailrace.backends.database import DatabaseBackend
from tailrace.backends.memory import MemoryBackend
from tailrace.backends.registry import backends
from tailrace.backends.retention import sweep as sweep_module
from tailrace.backends.rollups.declared import register_rollup, unregister_rollup
from tailrace.backends.written_models import _by_measurement, measurement_of
from tailrace.pipeline.config import Config
from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.retention import Policy

NOW = datetime(2024, 2, 29, 23, 59, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "_utc_now", lambda: NOW)


@pytest.fixture
def model(settings: Any, transactional_db: None) -> Iterator[Any]:
    """A model of readings on the default alias, with a table."""
    from django.db import connection

    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "readings.station"]
    from readings.station import models

    from tailrace.backends.written_models import is_reading

    _by_measurement.cache_clear()
    found = next(
        each
        for each in vars(models).values()
        if isinstance(each, type) and is_reading(each) and not each._meta.abstract
    )
    call_command("migrate", "station", verbosity=0)
    known = backends._config
    backends.configure(lambda: Config(rollups=dict.fromkeys(_BUILT_IN, False)))
    yield found
    backends.configure(known)
    call_command("migrate", "station", "zero", verbosity=0)
    _by_measurement.cache_clear()
    connection.close()


_BUILT_IN = ("requests", "queries", "exceptions", "jobs")


def policies(**ages: str) -> dict[str, Policy]:
    return {
        target.replace("__", "."): Policy.make(target.replace("__", "."), age)
        for target, age in ages.items()
    }


def fill(model: Any, *ages: float) -> None:
    device = apps.get_model("tailrace", "Device").objects.create(identifier=f"d{ages}")
    values = {
        field.name: 1
        for field in model._meta.concrete_fields
        if field.name not in ("id", "device", "timestamp")
        and not field.null
        and not field.has_default()
        and not field.blank
    }
    for age in ages:
        model.objects.create(device=device, timestamp=NOW - timedelta(days=age), **values)


def ages_of(model: Any) -> list[int]:
    times = model.objects.values_list("timestamp", flat=True)
    return sorted((NOW - time) // timedelta(days=1) for time in times)


def test_a_policy_is_kept_applied_replaced_and_removed(model: Any) -> None:
    fill(model, 1, 10, 50, 100)
    backend = DatabaseBackend("default", {})
    number = backend.create_retention_policy(model)
    assert isinstance(number, int)
    # Another process, as it were: nothing of it is in memory.
    DatabaseBackend("default", {}).sweep({}, seconds=10)
    assert ages_of(model) == [1, 10, 50]
    assert backend.create_retention_policy(model, drop_after="20 days") == number
    backend.sweep({}, seconds=10)
    assert ages_of(model) == [1, 10]
    assert backend.remove_retention_policy(model) is True
    assert backend.remove_retention_policy(model) is False
    backend.sweep({}, seconds=10)
    assert ages_of(model) == [1, 10]


def test_it_counts_before_that_of_all(model: Any) -> None:
    fill(model, 1, 10)
    backend = DatabaseBackend("default", {})
    backend.create_retention_policy(model, "30 days")
    backend.sweep(policies(**{"*": "5 days"}), seconds=10)
    assert ages_of(model) == [1, 10]
    backend.remove_retention_policy(model)
    backend.sweep(policies(**{"*": "5 days"}), seconds=10)
    assert ages_of(model) == [1]


def test_the_name_of_its_readings_means_the_model(model: Any) -> None:
    fill(model, 1, 10)
    name = measurement_of(model)
    report = DatabaseBackend("default", {}).sweep(policies(**{name: "5 days"}), seconds=10)
    assert report.rows == {model._meta.label: 1}
    assert ages_of(model) == [1]


def test_readings_go_when_their_rollup_has_them(model: Any) -> None:
    fill(model, 1, 10)
    register_rollup("climate", model._meta.label, widths=("1 hour",))
    try:
        backend = DatabaseBackend("default", {})
        report = backend.sweep(policies(**{model._meta.label: "5 days"}), seconds=10)
        buckets = apps.get_model("tailrace", "RollupBucket").objects.all()
        assert report.waits == {}
        assert sum(bucket.count for bucket in buckets) >= 1
    finally:
        unregister_rollup("climate")
    assert ages_of(model) == [1]


@pytest.mark.parametrize("age", ["soon", "-1 day", 0])
def test_an_age_that_is_none(model: Any, age: Any) -> None:
    with pytest.raises(ValueError, match="interval"):
        DatabaseBackend("default", {}).create_retention_policy(model, age)


def test_a_model_that_is_none(model: Any) -> None:
    backend = DatabaseBackend("default", {})
    with pytest.raises(ValueError, match="keeps no readings"):
        backend.create_retention_policy(_timed_but_no_reading())
    with pytest.raises(ValueError, match="no model of readings"):
        backend.create_retention_policy(apps.get_model("tailrace", "Event"))


def test_the_settings_count_first(model: Any) -> None:
    label = model._meta.label
    backends.configure(lambda: Config(retention={label: "7 days"}))
    with pytest.raises(ValueError, match="RETENTION"):
        DatabaseBackend("default", {}).create_retention_policy(model)


def test_backends_that_keep_no_policies_say_so(model: Any) -> None:
    with pytest.raises(NotSupportedByBackend, match="create_retention_policy"):
        MemoryBackend("memory", {}).create_retention_policy(model)


def test_raw_messages(transactional_db: None) -> None:
    messages = apps.get_model("tailrace", "RawMessage").objects
    for age in (1, 10, 100):
        messages.create(payload=b"x", received_at=NOW - timedelta(days=age))
    backend = DatabaseBackend("default", {})
    backend.sweep(policies(**{"*": "30 days"}), seconds=10)
    assert messages.count() == 2
    backend.sweep(policies(**{"*": "30 days", "tailrace.RawMessage": "5 days"}), seconds=10)
    assert messages.count() == 1


def _timed_but_no_reading() -> Any:
    from reading_models import WeatherStationReading

    return WeatherStationReading
