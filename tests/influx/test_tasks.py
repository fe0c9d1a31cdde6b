"""Rollups as downsampling tasks: on a real InfluxDB, and what their texts are made of."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from influx.conftest import MakeBackend
from influx.servers import InfluxAddress
from influxdb_client import InfluxDBClient
from readings.station.models import WeatherStationReading

from tailrace.backends.influx.tasks import ROLLUP_TAG
from tailrace.backends.testing.reading_data import make
from tailrace.backends.testing.reading_tools import ReaderTools
from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.rollup import Rollup

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
HARD = 'a "quoted" ${name} \\ {x} \U0001f30a'
RUN_SECONDS = 30.0


class Stored(ReaderTools):
    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def make_backend(self) -> Any:
        return self.backend


def rollup(name: str = "checkouts", source: str = "checkout", **options: Any) -> Rollup:
    defaults: dict[str, Any] = {"fields": ("amount",), "group_by": ("plan",), "widths": ("1 hour",)}
    return Rollup.make(name, source, **{**defaults, **options})


def points(address: InfluxAddress, bucket: str) -> list[dict[str, Any]]:
    """Return what a bucket of rollups has, by the client."""
    query = f'from(bucket: "{bucket}") |> range(start: 0, stop: 2100-01-01T00:00:00Z)'
    found: dict[Any, dict[str, Any]] = {}
    with InfluxDBClient(address.url, address.token, org=address.org) as client:
        for record in client.query_api().query_stream(query):
            values = record.values
            key = values["_time"], values[ROLLUP_TAG], values.get("plan"), values.get("device_id")
            found.setdefault(key, {})[values["_field"]] = values["_value"]
    order = sorted(found, key=lambda key: [str(each) for each in key])
    return [
        {"time": key[0], "level": key[1], "group": key[2] or key[3], **found[key]} for key in order
    ]


def test_tasks_are_made_changed_and_removed_with_the_settings(real_backend: MakeBackend) -> None:
    tasks = real_backend().rollup_tasks()
    both = [rollup(widths=("1 minute", "1 hour")), rollup("more", group_by=())]
    made = tasks.sync(both)
    names = [task.name.rpartition('" ')[2] for task in tasks.list_tasks()]
    assert names == [
        "checkouts:1 hour",
        "checkouts:1 minute",
        "more:1 hour",
    ]
    assert (len(made.created), made.updated, made.removed) == (3, (), ())
    assert all(task.is_active for task in tasks.list_tasks())
    again = tasks.sync(both)
    assert (again.created, again.updated, again.removed) == ((), (), ())
    ids = {task.id for task in tasks.list_tasks()}
    changed = tasks.sync([both[0], rollup("more", group_by=(), schedule_interval="2 hours")])
    assert [name.rpartition('" ')[2] for name in changed.updated] == ["more:1 hour"]
    assert {task.id for task in tasks.list_tasks()} == ids
    gone = tasks.sync([both[1]])
    assert len(gone.removed) == 2
    assert len(tasks.list_tasks()) == 1
    tasks.sync([])
    assert tasks.list_tasks() == []


def test_tasks_of_another_bucket_stay(real_backend: MakeBackend) -> None:
    one, other = real_backend().rollup_tasks(), real_backend().rollup_tasks()
    one.sync([rollup()])
    other.sync([rollup()])
    other.sync([])
    assert len(one.list_tasks()) == 1
    one.sync([])


def test_what_a_level_holds(real_backend: MakeBackend, influx: InfluxAddress) -> None:
    backend = real_backend()
    Stored(backend).stored(
        make("checkout", NOON + MINUTE, {"plan": "pro", "city": "a"}, {"amount": 2}),
        make("checkout", NOON + 2 * MINUTE, {"plan": "pro", "city": "b"}, {"amount": 5}),
        make("checkout", NOON + 61 * MINUTE, {"plan": "pro"}, {"amount": 1.5, "other": 9}),
        make("checkout", NOON + MINUTE, {}, {"amount": "text"}),
        make("other", NOON + MINUTE, {"plan": "pro"}, {"amount": 100}),
    )
    tasks = backend.rollup_tasks()
    tasks.sync([rollup()])
    for _ in range(2):  # the second time changes nothing
        tasks.materialise(rollup(), 0, None, NOON + timedelta(hours=2))
        assert points(influx, tasks.target) == [
            {"time": NOON, "level": "checkouts:1 hour", "group": None, "rows.count": 1},
            {
                "time": NOON,
                "level": "checkouts:1 hour",
                "group": "pro",
                "rows.count": 2,
                "amount.count": 2,
                "amount.sum": 7,
                "amount.min": 2,
                "amount.max": 5,
            },
            {
                "time": NOON + timedelta(hours=1),
                "level": "checkouts:1 hour",
                "group": "pro",
                "rows.count": 1,
                "tailrace.float.amount.count": 1,
                **{f"tailrace.float.amount.{part}": 1.5 for part in ("sum", "min", "max")},
            },
        ]
    tasks.sync([])


@pytest.mark.parametrize("width", ["90s", "7 hours", "3 days", "week", "month", "year"])
def test_buckets_are_those_of_queries(
    real_backend: MakeBackend, influx: InfluxAddress, width: str
) -> None:
    backend = real_backend()
    Stored(backend).stored(
        *(make("checkout", NOON + n * timedelta(hours=41), {}, {"amount": n}) for n in range(12))
    )
    tasks = backend.rollup_tasks()
    declared = rollup(widths=(width,))
    tasks.sync([declared])
    tasks.materialise(declared, 0, None, NOON + timedelta(days=400))
    found = [(point["time"], point["amount.sum"]) for point in points(influx, tasks.target)]
    rows = backend.downsample("checkout", "amount", width, "sum")
    assert found == [(row["bucket"], row["result"]) for row in rows]
    tasks.sync([])


def test_readings_by_device(
    real_backend: MakeBackend, influx: InfluxAddress, monkeypatch: Any
) -> None:
    installed, label = apps.get_model, "station.WeatherStationReading"
    monkeypatch.setattr(
        apps,
        "get_model",
        lambda *name: WeatherStationReading if name == (label,) else installed(*name),
    )
    backend = real_backend()
    Stored(backend).stored(
        *(
            make("weatherstation", NOON, {"device_id": str(n)}, {"temperature": n * 1.5})
            for n in range(2)
        )
    )
    declared = rollup(
        source="station.WeatherStationReading", fields=("temperature",), group_by=("device",)
    )
    tasks = backend.rollup_tasks()
    tasks.sync([declared])
    tasks.materialise(declared, 0, None, NOON + timedelta(hours=1))
    found = points(influx, tasks.target)
    assert [(point["group"], point["temperature.sum"]) for point in found] == [("0", 0), ("1", 1.5)]
    tasks.sync([])
    with pytest.raises(NotSupportedByBackend, match="'note'"):
        tasks.script(rollup(source="station.WeatherStationReading", group_by=("note",)), 0)


def test_a_task_runs_on_the_server(real_backend: MakeBackend, influx: InfluxAddress) -> None:
    backend = real_backend()
    bucket = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    Stored(backend).stored(make("checkout", bucket + MINUTE, {"plan": "pro"}, {"amount": 4}))
    tasks = backend.rollup_tasks()
    tasks.sync([rollup()])
    (task,) = tasks.list_tasks()
    with InfluxDBClient(influx.url, influx.token, org=influx.org) as client:
        client.tasks_api().run_manually(task.id)
    deadline = time.monotonic() + RUN_SECONDS
    while not (found := points(influx, tasks.target)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [(each["time"], each["amount.sum"]) for each in found] == [(bucket, 4)]
    tasks.sync([])


def test_hostile_names_are_names(real_backend: MakeBackend, influx: InfluxAddress) -> None:
    bucket = "bucket " + HARD.replace('"', "'")  # InfluxDB admits no quotation marks in these
    backend = real_backend(BUCKET=bucket)
    Stored(backend).stored(make(HARD, NOON, {"plan": "x", HARD: HARD}, {HARD: 3}))
    tasks = backend.rollup_tasks()
    declared = rollup("hard", HARD, fields=(HARD,), group_by=("plan", HARD))
    tasks.sync([declared])
    assert tasks.sync([declared]).updated == ()
    tasks.materialise(declared, 0, None, NOON + timedelta(hours=1))
    rows = backend.aggregate(HARD, HARD, "sum", group_by=["plan", HARD])
    assert rows == [{"result": 3, "plan": "x", HARD: HARD}]
    query = (
        'import "influxdata/influxdb/schema"\nbuckets() |> filter(fn: (r) => r.name =~ /rollups/)'
    )
    with InfluxDBClient(influx.url, influx.token, org=influx.org) as client:
        names = [record["name"] for record in client.query_api().query_stream(query)]
    assert tasks.target in names
    tasks.sync([])
    assert tasks.list_tasks() == []


@pytest.mark.parametrize(
    ("options", "word"),
    [({"time_zone": "Europe/Berlin"}, "TIME_ZONE"), ({"widths": ("3 months",)}, "3 months")],
)
def test_what_a_task_cannot_do_is_said(
    real_backend: MakeBackend, options: dict[str, Any], word: str
) -> None:
    tasks = real_backend().rollup_tasks()
    with pytest.raises(NotSupportedByBackend, match=word):
        tasks.sync([rollup("fine"), rollup(**options)])
    assert tasks.list_tasks() == []


def test_a_server_without_tasks_says_so(fake_backend: MakeBackend, monkeypatch: Any) -> None:
    from tailrace.backends.influx.server import Capabilities

    backend = fake_backend()
    old = Capabilities("InfluxDB 1", "1.8.10", queries=True)
    monkeypatch.setattr(backend, "capabilities", lambda: old)
    with pytest.raises(NotSupportedByBackend, match=r"1\.8\.10.*tasks"):
        backend.rollup_tasks()
