"""Partitions go as a whole where all in them is due, and else their rows do."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from postgres_alias import postgres_alias

from tailrace.backends.postgres import PostgresBackend
from tailrace.backends.private_connection import close_private_connections
from tailrace.backends.registry import backends
from tailrace.backends.retention import slices
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Event, ns_from_datetime
from tailrace.pipeline.retention import Policy, RetentionConfig

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
_positions = itertools.count(1)


@pytest.fixture
def backend(
    postgres_database: Callable[[str], str],
    django_db_blocker: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[PostgresBackend]:
    """A backend with a partition for each of the last 12 days."""
    monkeypatch.setattr(slices, "_sleep", lambda seconds: None)
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
        made.ensure_partitions(TODAY - 12 * DAY)
        made.create_checkpoint(Checkpoint(0))
        yield made
        backends.configure(known)
        close_private_connections(alias)


def store(backend: PostgresBackend, measurement: str, ages: Any, **tags: str) -> None:
    events = [
        Event(
            measurement,
            ns_from_datetime(TODAY - age * DAY + timedelta(hours=1)),
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


def sweep(backend: PostgresBackend, **entries: Any) -> Any:
    made = {
        target: Policy.make(target, RetentionConfig(**entry) if isinstance(entry, dict) else entry)
        for target, entry in ((name.replace("all", "*"), each) for name, each in entries.items())
    }
    return backend.sweep(made, seconds=20)


def test_whole_days_go(backend: PostgresBackend) -> None:
    store(backend, "request", range(12))
    store(backend, "query", range(12))
    report = sweep(backend, all="5 days")
    assert len(report.dropped) == 6, report.dropped
    assert ages(backend, "request") == ages(backend, "query") == [0, 1, 2, 3, 4]
    # The day in which the age ends is not over: its rows went in a slice.
    assert sum(report.rows.values()) == 2


def test_a_day_with_something_that_is_kept_stays(backend: PostgresBackend) -> None:
    store(backend, "request", range(12))
    store(backend, "checkout", [9])
    report = sweep(backend, request="5 days", checkout=None)
    assert len(report.dropped) == 2, "only those before the one that is kept"
    assert ages(backend, "request") == [0, 1, 2, 3, 4]
    assert ages(backend, "checkout") == [9]


def test_a_day_with_something_that_has_no_policy_stays(backend: PostgresBackend) -> None:
    store(backend, "request", range(12))
    store(backend, "checkout", [11])
    assert sweep(backend, request="5 days").dropped == []
    assert ages(backend, "request") == [0, 1, 2, 3, 4]
    assert ages(backend, "checkout") == [11]


def test_a_hold_keeps_partitions(backend: PostgresBackend) -> None:
    store(backend, "request", range(12))
    store(backend, "request", [10], tenant="acme")
    report = sweep(backend, request={"drop_after": "5 days", "hold": {"tenant": "acme"}})
    assert report.dropped == []
    assert ages(backend, "request") == [0, 1, 2, 3, 4, 10]


def test_a_late_event_that_comes_in_between_is_not_lost(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look and the lock, a measurement that is kept gets a late event."""
    store(backend, "request", range(12))
    drop = backend.drop_partitions

    def late(*args: Any, **options: Any) -> Any:
        store(backend, "checkout", [8])
        return drop(*args, **options)

    monkeypatch.setattr(backend, "drop_partitions", late)
    report = sweep(backend, request="5 days", checkout=None)
    assert ages(backend, "checkout") == [8]
    assert len(report.dropped) == 3


def test_days_to_come_are_not_dropped(backend: PostgresBackend) -> None:
    before = len(backend.event_spans())
    assert sweep(backend, request="5 days").dropped == []
    assert len(backend.event_spans()) == before


def test_what_a_killed_run_has_detached_goes_with_the_next(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tailrace.backends.partitions import Partitions

    store(backend, "request", range(12))

    def dies(self: Any, deadline: float) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Partitions, "_drop_expired", dies)
        with pytest.raises(KeyboardInterrupt):
            sweep(backend, request="5 days")
    report = sweep(backend, request="5 days")
    assert len(report.dropped) == 6
    assert ages(backend, "request") == [0, 1, 2, 3, 4]
