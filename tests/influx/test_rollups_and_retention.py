"""Tasks, continuous aggregates and retention as the settings say, on a real InfluxDB."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.apps import apps
from influx.conftest import MakeBackend
from influx.servers import InfluxAddress
from influx.test_tasks import HOUR, MINUTE, NOON, Stored, points
from readings.station.models import WeatherStationReading

from tailrace.backends.influx.retention import BUCKET_LEAST_SECONDS, bucket_seconds
from tailrace.backends.influx.server import Buckets
from tailrace.backends.registry import backends
from tailrace.backends.testing.reading_data import make
from tailrace.pipeline.config import BackendConfig, Config
from tailrace.pipeline.errors import BackendMisconfigured, NotSupportedByBackend
from tailrace.pipeline.retention import Policy, RetentionConfig
from tailrace.pipeline.rollup import BUILT_IN, RollupConfig

DAY_SECONDS = 86_400


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the settings declare these rollups, and none of the built-in ones."""

    def use(exclude: tuple[str, ...] = (), **rollups: RollupConfig | bool) -> None:
        every = {**dict.fromkeys(BUILT_IN, False), **rollups}
        config = Config(backends={"default": BackendConfig(exclude=exclude)}, rollups=every)
        monkeypatch.setattr(type(backends), "config", config)

    return use


@pytest.fixture
def label(monkeypatch: pytest.MonkeyPatch) -> str:
    installed, name = apps.get_model, "station.WeatherStationReading"
    monkeypatch.setattr(
        apps,
        "get_model",
        lambda *asked: WeatherStationReading if asked == (name,) else installed(*asked),
    )
    return name


def test_beat_makes_tasks_and_removes_them(real_backend: MakeBackend, settings_of: Any) -> None:
    backend = real_backend()
    hourly = RollupConfig(source="checkout", fields=("amount",), widths=("1 hour",))
    berlin = RollupConfig(source="checkout", widths=("1 day",), time_zone="Europe/Berlin")
    settings_of(hourly=hourly, berlin=berlin, other=hourly)
    done = backend.refresh_due()
    assert sorted(done.values())[:2] == ["created", "created"]
    assert "TIME_ZONE" in done["berlin"]
    assert set(backend.refresh_due()) == {"berlin"}
    settings_of(hourly=hourly)
    assert list(backend.refresh_due().values()) == ["removed"]
    settings_of(exclude=("checkout",), hourly=hourly)
    assert list(backend.refresh_due().values()) == ["removed"]
    assert backend.rollup_tasks().list_tasks() == []


def test_tasks_can_be_left_to_others(real_backend: MakeBackend, settings_of: Any) -> None:
    settings_of(hourly=RollupConfig(source="checkout", widths=("1 hour",)))
    backend = real_backend(ROLLUP_TASKS=False)
    assert backend.refresh_due() == {}
    assert backend.rollup_tasks().list_tasks() == []


def test_refresh_computes_whole_buckets_only(
    real_backend: MakeBackend, influx: InfluxAddress, settings_of: Any
) -> None:
    backend = real_backend()
    Stored(backend).stored(
        *(make("checkout", NOON + n * HOUR / 2, {}, {"amount": n}) for n in range(6))
    )
    settings_of(hourly=RollupConfig(source="checkout", fields=("amount",), widths=("1 hour",)))
    backend.refresh_due()
    done = backend.refresh_rollup("hourly", NOON + MINUTE, NOON + 2 * HOUR + MINUTE)
    assert "1 levels" in str(done)
    found = points(influx, backend.rollup_tasks().target)
    assert [(each["time"], each["amount.sum"]) for each in found] == [(NOON + HOUR, 2 + 3)]
    with pytest.raises(ValueError, match="no bucket"):
        backend.refresh_rollup("hourly", NOON + MINUTE, NOON + 2 * MINUTE)
    with pytest.raises(ValueError, match="there are: hourly"):
        backend.refresh_rollup("nix")


def test_continuous_aggregates(
    real_backend: MakeBackend, influx: InfluxAddress, label: str, settings_of: Any
) -> None:
    settings_of()
    backend = real_backend()
    Stored(backend).stored(
        *(
            make("weatherstation", NOON + n * MINUTE, {"device_id": str(n % 2)}, {"humidity": 1.5})
            for n in range(5)
        )
    )
    assert backend.continuous_aggregate("wet", WeatherStationReading, "humidity", "sum")
    target = backend.rollup_tasks().target
    found = [(each["group"], each["humidity.sum"]) for each in points(influx, target)]
    assert found == [("0", 4.5), ("1", 3.0)]
    again = {"schedule_interval": "2 hours", "with_data": False}
    assert not backend.continuous_aggregate(
        "wet", WeatherStationReading, "humidity", "sum", **again
    )
    with pytest.raises(ValueError, match="drop it first"):
        backend.continuous_aggregate("wet", WeatherStationReading, "temperature", "sum")
    with pytest.raises(NotSupportedByBackend, match="percentiles"):
        backend.continuous_aggregate("high", WeatherStationReading, "humidity", "p95")
    # The settings' tasks come and go without it.
    assert backend.refresh_due() == {}
    backend.refresh_continuous_aggregate("wet", WeatherStationReading, NOON, NOON + HOUR)
    backend.drop_continuous_aggregate("wet", WeatherStationReading)
    with pytest.raises(ValueError, match="no continuous aggregate 'wet'"):
        backend.drop_continuous_aggregate("wet", WeatherStationReading)
    settings_of(exclude=("weatherstation",))
    with pytest.raises(BackendMisconfigured, match="MEASUREMENTS"):
        backend.continuous_aggregate("wet", WeatherStationReading, "humidity", "sum")


def test_tasks_of_a_bucket_with_a_longer_name_stay(
    real_backend: MakeBackend, settings_of: Any
) -> None:
    settings_of(hourly=RollupConfig(source="checkout", widths=("1 hour",)))
    web, longer = real_backend(BUCKET="web"), real_backend(BUCKET="web eu")
    longer.refresh_due()
    settings_of()
    assert web.refresh_due() == {}
    assert len(longer.rollup_tasks().list_tasks()) == 1
    longer.refresh_due()


def test_the_bucket_gets_the_longest_age_and_the_rest_is_deleted(
    real_backend: MakeBackend, settings_of: Any
) -> None:
    settings_of()
    backend = real_backend()
    now = datetime.now(UTC)
    names = ("checkout", "query", "held", "tagged")
    Stored(backend).stored(
        *(
            make(name, now - timedelta(days=days, minutes=1), {}, {"n": days})
            for name in names
            for days in (0, 10, 50)
        )
    )
    by_tag = [{"TAGS": {"a": "b"}, "DROP_AFTER": "60 days"}]
    tagged = {"DROP_AFTER": "1 day", "BY_TAG": by_tag}
    asked = {"checkout": "7 days", "*": "30 days", "tagged": tagged, "kept": "90 days"}
    entries = msgspec.convert(asked, dict[str, RetentionConfig | str])
    made = {name: Policy.make(name, each) for name, each in entries.items()}
    done = backend.sweep(made, seconds=20)
    assert "checkout" in str(done)
    left = {
        name: [row["fields"]["n"] for row in backend.query(name, order="time")] for name in names
    }
    assert left == {"checkout": [0], "query": [10, 0], "held": [10, 0], "tagged": [50, 10, 0]}
    bucket = Buckets(backend.api, backend.api.server.org).find(backend.bucket)
    assert bucket is not None
    assert bucket["retentionRules"][0]["everySeconds"] == 90 * DAY_SECONDS
    made["checkout"] = Policy.make("checkout", RetentionConfig(None))
    backend.sweep(made, seconds=20)
    bucket = Buckets(backend.api, backend.api.server.org).find(backend.bucket)
    assert bucket is not None
    assert bucket["retentionRules"][0]["everySeconds"] == 0
    assert str(backend.sweep({}, seconds=20)) == "no policies"


@pytest.mark.parametrize(
    ("entries", "seconds"),
    [
        ({}, None),
        ({"a": "7 days"}, None),
        ({"*": "7 days", "a": "2 days"}, 7 * DAY_SECONDS),
        ({"*": "7 days", "a": None}, 0),
        ({"*": "7 days", "a": RetentionConfig("1 day", hold={"x": "y"})}, 0),
        ({"*": "1 minute"}, BUCKET_LEAST_SECONDS),
        ({"*": "1 month"}, 31 * DAY_SECONDS),
    ],
)
def test_age_of_a_bucket(entries: dict[str, Any], seconds: int | None) -> None:
    made = {name: Policy.make(name, each) for name, each in entries.items()}
    assert bucket_seconds(made) == seconds
