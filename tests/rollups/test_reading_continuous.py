"""``continuous_aggregate()`` on databases that have none of their own, and in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import reading_models
from django.apps import AppConfig, apps
from django.db import transaction
from django.test import override_settings
from reading_models import LABEL, Station, WeatherStationReading, tables

from tailrace.backends.memory import MemoryBackend
from tailrace.backends.null import NullBackend
from tailrace.backends.rollups.invalidation import invalidate_times
from tailrace.backends.rollups.ranges import us_of
from tailrace.pipeline.errors import BackendMisconfigured, NotSupportedByBackend

from .stores import Store, store  # noqa: F401 - the fixture

FIRST = datetime(2024, 3, 30, 12, tzinfo=UTC)
COUNT = 200


@pytest.fixture(scope="module")
def installed() -> Iterator[None]:
    """Let the models be found by their label, as those of an installed app are."""
    config = AppConfig(reading_models.__name__, sys.modules[reading_models.__name__])
    config.label, config.apps = LABEL, apps
    config.models = apps.all_models[LABEL]
    apps.app_configs[LABEL] = config
    yield
    del apps.app_configs[LABEL]


@pytest.fixture(scope="module")
def station_tables(store: Store, installed: None) -> Iterator[Store]:  # noqa: F811
    routers = ["reading_models.ReadingsRouter"]
    with override_settings(DATABASE_ROUTERS=routers), tables(store.alias):
        Station.objects.using(store.alias).bulk_create(
            Station(id=n + 1, name=f"s{n}") for n in range(3)
        )
        yield store


@pytest.fixture
def stations(station_tables: Store) -> Store:
    """Readings every ten minutes, of three devices."""
    station_tables.empty()
    rows = WeatherStationReading.objects.using(station_tables.alias)
    rows.all().delete()
    rows.bulk_create(
        WeatherStationReading(
            device_id=n % 3 + 1,
            timestamp=FIRST + timedelta(minutes=10 * n),
            temperature=n * 0.5,
            visitors=n,
        )
        for n in range(COUNT)
    )
    return station_tables


def make(backend: Any, name: str = "hourly", **options: Any) -> bool:
    given: dict[str, Any] = {"field": "visitors", "function": "sum", "start_offset": None}
    return bool(backend.continuous_aggregate(name, WeatherStationReading, **{**given, **options}))


def ask(backend: Any, **options: Any) -> Any:
    given: dict[str, Any] = {"interval": "hour", "group_by": ["device"]}
    return backend.aggregate(WeatherStationReading, "visitors", "sum", **{**given, **options})


def test_it_answers_without_the_readings(stations: Store) -> None:
    backend = stations.backend
    right = ask(backend, use_rollups=False)
    assert make(backend) is True
    assert ask(backend) == right
    WeatherStationReading.objects.using(stations.alias).all()._raw_delete(stations.alias)
    assert ask(backend) == right
    assert ask(backend, interval=None, group_by=None) == {"result": sum(range(COUNT))}
    assert ask(backend, interval=None, group_by=None, device=1)["result"] == sum(range(0, COUNT, 3))
    assert ask(backend, use_rollups=False) == []
    assert backend.aggregate(WeatherStationReading, "temperature", "sum") == {"result": None}


def test_late_readings_count_before_and_after_a_refresh(stations: Store) -> None:
    backend = stations.backend
    make(backend)
    before = ask(backend, interval=None, group_by=None)["result"]
    rows = WeatherStationReading.objects.using(stations.alias)
    with transaction.atomic(using=stations.alias):
        rows.create(device_id=1, timestamp=FIRST, visitors=1_000)
        invalidate_times(stations.alias, WeatherStationReading._meta.label, [us_of(FIRST)])
    assert ask(backend, interval=None, group_by=None)["result"] == before + 1_000
    backend.refresh_continuous_aggregate("hourly", WeatherStationReading)
    assert ask(backend, interval=None, group_by=None)["result"] == before + 1_000
    assert ask(backend) == ask(backend, use_rollups=False)


def test_percentiles_and_counts(stations: Store) -> None:
    backend = stations.backend
    make(backend, "p", field="temperature", function="p90")
    make(backend, "c", field=None, function="count", interval="1 day")
    WeatherStationReading.objects.using(stations.alias).all()._raw_delete(stations.alias)
    found = backend.aggregate(WeatherStationReading, "temperature", "p90")["result"]
    assert abs(found - 89.55) < 0.01 * 89.55
    counts = backend.downsample(WeatherStationReading, None, "day", "count")
    assert [row["result"] for row in counts] == [72, 128]


def test_without_data_older_readings_are_read(stations: Store) -> None:
    backend = stations.backend
    assert make(backend, with_data=False) is True
    assert stations.rows("RollupBucket").count() == 0
    assert ask(backend) == ask(backend, use_rollups=False)


def test_the_same_again_replaces_the_schedule(stations: Store) -> None:
    backend = stations.backend
    assert make(backend) is True
    assert make(backend, schedule_interval="5 minutes", end_offset="2 hours") is False
    (row,) = stations.rows("RollupLevel").filter(is_declared_here=True)
    assert '"5 minutes"' in row.declaration
    with pytest.raises(ValueError, match="another continuous aggregate 'hourly'"):
        make(backend, field="temperature")


def test_dropping(stations: Store) -> None:
    backend = stations.backend
    make(backend)
    with pytest.raises(ValueError, match="no continuous aggregate 'daily'"):
        backend.drop_continuous_aggregate("daily", WeatherStationReading)
    with pytest.raises(ValueError, match="Station has no continuous aggregate"):
        backend.refresh_continuous_aggregate("hourly", Station)
    backend.drop_continuous_aggregate("hourly", WeatherStationReading)
    assert not stations.rows("RollupLevel").filter(rollup="hourly").exists()
    assert ask(backend) == ask(backend, use_rollups=False)
    with pytest.raises(ValueError, match="no continuous aggregate"):
        backend.refresh_continuous_aggregate("hourly", WeatherStationReading)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"field": "nothing"}, "no field 'nothing'"),
        ({"field": "note"}, "holds no numbers"),
        ({"function": "median"}, "median"),
        ({"interval": "soon"}, "soon"),
        ({"start_offset": "1 hour", "end_offset": "1 day"}, "START_OFFSET"),
    ],
)
@pytest.mark.parametrize("is_in_memory", [False, True])
def test_what_cannot_be_meant(
    stations: Store, options: dict[str, Any], words: str, is_in_memory: bool
) -> None:
    backend = MemoryBackend() if is_in_memory else stations.backend
    with pytest.raises(ValueError, match=words):
        make(backend, **options)
    assert not stations.rows("RollupLevel").exists()


def test_readings_of_another_database(stations: Store) -> None:
    from tailrace.backends.django_db import DjangoDBBackend

    with pytest.raises(BackendMisconfigured, match="no backend stores there"):
        make(DjangoDBBackend("other", {"ALIAS": "default"}))


def test_memory_registers_and_computes_each_time() -> None:
    backend = MemoryBackend()
    assert make(backend) is True
    assert make(backend) is False
    with pytest.raises(ValueError, match="another continuous aggregate"):
        make(backend, function="avg", field="rain")
    backend.refresh_continuous_aggregate("hourly", WeatherStationReading)
    backend.drop_continuous_aggregate("hourly", WeatherStationReading)
    with pytest.raises(ValueError, match="no continuous aggregate"):
        backend.drop_continuous_aggregate("hourly", WeatherStationReading)


def test_a_backend_that_keeps_nothing_says_so() -> None:
    with pytest.raises(NotSupportedByBackend, match="continuous_aggregate"):
        make(NullBackend())
