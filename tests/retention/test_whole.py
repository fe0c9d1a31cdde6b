"""Partitions go as a whole where all in them is due, and else their rows do."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connections
from postgres_alias import postgres_alias

from tailrace.backends.partitions import Partitions
from tailrace.backends.postgres import PostgresBackend
from tailrace.backends.private_connection import close_private_connections
from tailrace.backends.registry import backends
from tailrace.backends.retention import slices
from tailrace.backends.retention import sweep as sweep_module
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Event, ns_from_datetime
from tailrace.pipeline.retention import Policy, RetentionConfig

DAY = timedelta(days=1)
AGE = 5 * DAY
TODAY = datetime(2024, 2, 29, tzinfo=UTC)
TIMES = [
    TODAY,
    TODAY + timedelta(minutes=1),
    TODAY + timedelta(hours=12),
    TODAY + DAY - timedelta(seconds=1),
]
at_any_time = pytest.mark.parametrize("now", TIMES, ids=str)
_positions = itertools.count(1)


@pytest.fixture
def now() -> datetime:
    """What time it is for retention; a test may be given others of that day."""
    return TODAY + timedelta(hours=12)


@pytest.fixture
def backend(
    postgres_database: Callable[[str], str],
    django_db_blocker: Any,
    monkeypatch: pytest.MonkeyPatch,
    now: datetime,
) -> Iterator[PostgresBackend]:
    """A backend with a partition for each of the last 13 days, and for two to come."""
    monkeypatch.setattr(slices, "_sleep", lambda seconds: None)
    monkeypatch.setattr(sweep_module, "_utc_now", lambda: now)
    known = backends._config
    no_rollups = dict.fromkeys(("requests", "queries", "exceptions", "jobs"), False)
    with (
        django_db_blocker.unblock(),
        postgres_alias(postgres_database("whole")) as alias,
    ):
        backends.configure(lambda: Config(rollups=no_rollups))
        made = PostgresBackend(
            "default", {"ALIAS": alias, "PARTITION": "day", "PARTITIONS_AHEAD": 14}
        )
        # The one of the day before comes by itself.
        made.ensure_partitions(TODAY - 12 * DAY)
        # Nothing is made for the true present while the test runs.
        monkeypatch.setattr(made, "ensure_partitions", lambda now=None: [])
        made.create_checkpoint(Checkpoint(0))
        yield made
        backends.configure(known)
        close_private_connections(alias)


def store(backend: PostgresBackend, measurement: str, ages: Any, **tags: str) -> None:
    events = [
        Event(
            measurement,
            ns_from_datetime(_time(age)),
            tags,
            {"n": 1},
            id=uuid.uuid4().bytes,
        )
        for age in ages
    ]
    with backend.transaction(0) as tx:
        tx.write(events)
        position = f"{next(_positions)}-0"
        tx.advance(Checkpoint(0, position, "e", tx.checkpoint.created_ns), [])


def ages(backend: PostgresBackend, measurement: str) -> list[int]:
    with connections[backend.get_db_alias()].cursor() as cursor:
        query = "SELECT time FROM tailrace_event WHERE measurement = %s ORDER BY time DESC"
        cursor.execute(query, [measurement])
        return [(TODAY + DAY - time) // DAY for (time,) in cursor.fetchall()]


def _time(age: int) -> datetime:
    return TODAY - age * DAY + timedelta(hours=1)


def young(now: datetime) -> list[int]:
    """Return the days, of the 12 stored, whose row is not past its age."""
    return [age for age in range(12) if _time(age) >= now - AGE]


def days_of(backend: PostgresBackend) -> set[int]:
    """Return the ages of the days that have a partition."""
    return {(TODAY - low) // DAY for low, _ in backend.event_spans()}


def sweep(backend: PostgresBackend, **entries: Any) -> Any:
    made = {
        target: Policy.make(target, RetentionConfig(**entry) if isinstance(entry, dict) else entry)
        for target, entry in ((name.replace("all", "*"), each) for name, each in entries.items())
    }
    return backend.sweep(made, seconds=20)


@at_any_time
def test_whole_days_go(backend: PostgresBackend, now: datetime) -> None:
    """Those that are over for long enough go, empty ones too; of the others, rows go in slices."""
    store(backend, "request", range(12))
    store(backend, "query", range(12))
    assert days_of(backend) == set(range(-2, 14))
    report = sweep(backend, all="5 days")
    # The youngest day that is over at the age of five days is the one six days ago.
    assert len(report.dropped) == 8, report.dropped
    assert days_of(backend) == set(range(-2, 6))
    assert ages(backend, "request") == ages(backend, "query") == young(now)
    assert sum(report.rows.values()) == 2 * (6 - len(young(now)))


@at_any_time
def test_a_day_with_something_that_is_kept_stays(backend: PostgresBackend, now: datetime) -> None:
    store(backend, "request", range(12))
    store(backend, "checkout", [9])
    sweep(backend, request="5 days", checkout=None)
    assert days_of(backend) == {*range(-2, 6), 9}
    assert ages(backend, "request") == young(now)
    assert ages(backend, "checkout") == [9]


def test_a_day_with_something_that_has_no_policy_stays(
    backend: PostgresBackend, now: datetime
) -> None:
    store(backend, "request", range(12))
    store(backend, "checkout", [6, 11, 13])
    report = sweep(backend, request="5 days")
    assert days_of(backend) == {*range(-2, 6), 6, 11, 13}
    assert report.rows == {"request": 3}, "of the days 6 and 11, and of the one of the cut"
    assert ages(backend, "request") == young(now)
    assert ages(backend, "checkout") == [6, 11, 13]


def test_a_day_waits_for_the_longest_age_in_it(backend: PostgresBackend, now: datetime) -> None:
    store(backend, "request", range(12))
    store(backend, "exception", [7, 10])
    sweep(backend, request="5 days", exception="9 days")
    assert days_of(backend) == {*range(-2, 6), 7}
    assert ages(backend, "request") == young(now)
    assert ages(backend, "exception") == [7]


def test_a_hold_keeps_partitions(backend: PostgresBackend, now: datetime) -> None:
    store(backend, "request", range(12))
    store(backend, "request", [10], tenant="acme")
    report = sweep(backend, request={"drop_after": "5 days", "hold": {"tenant": "acme"}})
    assert report.dropped == []
    assert ages(backend, "request") == [*young(now), 10]


def test_a_late_event_that_comes_in_between_is_not_lost(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    """Between the first look and the lock, a measurement that is kept gets a late event."""
    store(backend, "request", range(12))
    detach = Partitions._detach
    before: list[str] = []

    def late(self: Any, partition: Any, *args: Any) -> Any:
        if (TODAY - partition.lower) // DAY == 8:
            before.append(partition.name)
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join(30)
        return detach(self, partition, *args)

    def elsewhere() -> None:
        try:
            store(backend, "checkout", [8])
        finally:
            close_private_connections()

    with monkeypatch.context() as patch:
        patch.setattr(Partitions, "_detach", late)
        sweep(backend, request="5 days", checkout=None)
    assert len(before) == 1
    assert days_of(backend) == {*range(-2, 6), 8}
    assert ages(backend, "checkout") == [8]
    assert ages(backend, "request") == young(now)


def test_what_nothing_is_said_about_is_not_dropped(backend: PostgresBackend) -> None:
    """Neither days to come, nor empty ones where no policy has an age."""
    before = days_of(backend)
    assert sweep(backend).dropped == []
    assert sweep(backend, request=None).dropped == []
    assert sweep(backend, request={"max_rows": 10}).dropped == []
    assert days_of(backend) == before
    sweep(backend, request="5 days")
    assert days_of(backend) == set(range(-2, 6))


def test_what_a_killed_run_has_detached_goes_with_the_next(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    store(backend, "request", range(12))

    def dies(self: Any, deadline: float) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Partitions, "_drop_expired", dies)
        with pytest.raises(KeyboardInterrupt):
            sweep(backend, request="5 days")
    report = sweep(backend, request="5 days")
    assert len(report.dropped) == 8
    assert days_of(backend) == set(range(-2, 6))
    assert ages(backend, "request") == young(now)


def test_a_reader_of_hours_stops_no_slices(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    """A dump, say, has locks on all partitions; their rows go meanwhile, and they go after it."""
    monkeypatch.setattr(sweep_module, "_WHOLE_SECONDS", 0.2)
    store(backend, "request", range(12))
    parameters = connections[backend.get_db_alias()].get_connection_params()
    with psycopg.connect(**parameters) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tailrace_event")
        report = sweep(backend, request="5 days")
        assert "lock timeout" in report.waits["whole partitions"]
        assert report.is_finished
        assert ages(backend, "request") == young(now)
    assert len(sweep(backend, request="5 days").dropped) == 8
