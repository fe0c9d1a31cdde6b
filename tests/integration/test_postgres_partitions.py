"""Time partitions of the events' table: made, missed, converted, detached and dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from postgres_alias import connect, postgres_alias, rows

from tailrace.backends.partition_plan import UNITS, Partition, bucket_start, missing, next_start
from tailrace.backends.partitions import Partitions
from tailrace.backends.postgres import PostgresBackend
from tailrace.backends.private_connection import close_private_connections, private_connection
from tailrace.backends.testing import MemoryStream
from tailrace.backends.testing.draining import CONFIG, drain
from tailrace.backends.testing.frames import issue
from tailrace.pipeline.errors import BackendMisconfigured, ConfigurationError, TransientBackendError
from tailrace.pipeline.event import ns_from_datetime
from tailrace.pipeline.producer import Producer

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)  # a Saturday
DAY = timedelta(days=1)
WHERE = "SELECT tableoid::regclass::text, (fields->>'n')::int FROM tailrace_event ORDER BY 2"


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def url(postgres_database: Callable[[str], str]) -> str:
    return postgres_database("partitions")


@pytest.fixture
def alias(url: str) -> Iterator[str]:
    with postgres_alias(url) as name:
        yield name


def make(alias: str, unit: str | None = "day", **options: Any) -> PostgresBackend:
    backend = PostgresBackend("default", {"ALIAS": alias, "PARTITION": unit, **options})
    backend.setup()
    # Tests say themselves what the time is.
    backend._partitions_due = float("inf")
    return backend


def store(backend: PostgresBackend, *moments: datetime) -> None:
    stream, producer = MemoryStream(CONFIG), Producer(1, {})
    events = [("a", ns_from_datetime(m), {}, {"n": n}, None) for n, m in enumerate(moments)]
    stream.send(0, [issue(producer, events).frame])
    drain(backend, stream)


def names(alias: str) -> list[str]:
    with private_connection(alias) as connection:
        return [partition.name for partition in Partitions(connection).all()]


# --- arithmetic

moments = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.timezones())


@given(moments, st.sampled_from(UNITS))
def test_buckets_follow_each_other_without_gap(moment: datetime, unit: str) -> None:
    start = bucket_start(moment, unit)
    end = next_start(start, unit)
    assert start <= moment < end
    assert bucket_start(end, unit) == end
    assert bucket_start(end - timedelta(microseconds=1), unit) == start


@given(
    st.sampled_from(UNITS),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), max_size=4),
    st.integers(1, 6),
)
def test_what_is_missing_overlaps_nothing_and_reaches_the_end(
    unit: str, there: list[tuple[int, int]], count: int
) -> None:
    existing = []
    day = 0
    for gap, length in there:
        lower = NOW.replace(hour=0, minute=0) + (day + gap - 20) * DAY
        existing.append(Partition("x", False, lower, lower + length * DAY, False, 0, 0))
        day += gap + length
    spans = missing(existing, NOW, unit, count)
    taken = sorted([(p.lower, p.upper) for p in existing] + [(s.lower, s.upper) for s in spans])
    assert all(before[1] <= after[0] for before, after in pairwise(taken))
    end = bucket_start(NOW, unit)
    for _ in range(count):
        end = next_start(end, unit)
    assert any(lower < end <= upper for lower, upper in taken), "the last bucket has its end"


def test_another_unit_goes_on_where_the_one_before_ended() -> None:
    days = missing([], NOW, "day", 3)
    there = [Partition(s.name, False, s.lower, s.upper, False, 0, 0) for s in days]
    (month,) = missing(there, NOW, "month", 1)
    assert (month.name, month.lower.day, month.upper.month) == ("tailrace_event_m20261124", 24, 12)


# --- making them


def test_an_empty_table_becomes_a_partitioned_one(url: str, alias: str) -> None:
    before = _indexes(url)
    backend = make(alias)
    made = backend.ensure_partitions(NOW)
    days = [f"tailrace_event_d202611{day}" for day in (20, 21, 22, 23, 24, 25)]
    assert made == [*days, "tailrace_event_default"]
    assert backend.ensure_partitions(NOW) == [], "there is nothing to do"
    assert backend.ensure_partitions(NOW + DAY) == ["tailrace_event_d20261126"]
    after = _indexes(url)
    assert after.keys() == before.keys(), "migrations name indexes"
    assert '(id, "time")' in after.pop("tailrace_event_pkey")
    for name, definition in after.items():
        assert definition.replace("ON ONLY ", "ON ") == before[name]


def _indexes(url: str) -> dict[str, str]:
    query = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'tailrace_event'"
    with connect(url) as connection:
        return dict(connection.execute(query).fetchall())


def test_without_partition_nothing_is_done(alias: str) -> None:
    backend = make(alias, None)
    assert backend.ensure_partitions(NOW) == []
    assert names(alias) == []
    with pytest.raises(ConfigurationError, match="has no PARTITION: write 'day' or 'week'"):
        backend.partition_existing(NOW)


def test_rows_find_their_partition_and_strays_the_default_one(alias: str) -> None:
    backend = make(alias)
    backend.ensure_partitions(NOW)
    store(backend, NOW, NOW + DAY, NOW - 400 * DAY, NOW + 400 * DAY, NOW.replace(hour=0, minute=0))
    assert [name for name, _ in rows(alias, WHERE)] == [
        "tailrace_event_d20261121",
        "tailrace_event_d20261122",
        "tailrace_event_default",
        "tailrace_event_default",
        "tailrace_event_d20261121",
    ]
    events = apps.get_model("tailrace", "Event").objects.using(alias)
    with private_connection(alias):
        created = events.create(
            uid="00000000-0000-0000-0000-000000000001", measurement="b", time=NOW
        )
        assert events.get(pk=created.pk).time == NOW, "the model works as before"
        assert events.filter(time__gte=NOW).count() == 4


def test_strays_move_when_their_partition_is_made(alias: str) -> None:
    backend = make(alias)
    backend.ensure_partitions(NOW)
    store(backend, NOW + 9 * DAY, NOW + 10 * DAY, NOW - 30 * DAY)
    made = backend.ensure_partitions(NOW + 9 * DAY)
    assert made[0] == "tailrace_event_d20261130"
    assert [name for name, _ in rows(alias, WHERE)] == [
        "tailrace_event_d20261130",
        "tailrace_event_d20261201",
        "tailrace_event_default",
    ]


def test_workers_that_start_together(alias: str) -> None:
    barrier, results, errors = threading.Barrier(4), [], []

    def work() -> None:
        backend = make(alias)
        try:
            barrier.wait(10)
            results.append(backend.ensure_partitions(NOW))
        except Exception as error:
            errors.append(error)
            raise
        finally:
            close_private_connections()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert len(results) == 4
    assert len(names(alias)) == 7


def test_the_drain_sees_to_it_itself(alias: str) -> None:
    backend = make(alias)
    backend._partitions_due = 0.0
    today = datetime.now(UTC)
    store(backend, today)
    assert f"tailrace_event_d{today:%Y%m%d}" in names(alias)
    assert rows(alias, WHERE)[0][0].startswith("tailrace_event_d2")


def test_a_drain_that_may_not_make_partitions_stores_all_the_same(url: str, alias: str) -> None:
    """A role that owns nothing: partitions are somebody else's work."""
    with connect(url) as connection:
        connection.execute("CREATE ROLE tailrace_drainer NOLOGIN")
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO tailrace_drainer")
        connection.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO tailrace_drainer")
    try:
        with postgres_alias(url, migrate=False, assume_role="tailrace_drainer") as drainer:
            backend = make(drainer)
            backend._partitions_due = 0.0
            store(backend, NOW)
            assert backend._partitions_due < time.monotonic() + 100, "it will try again"
        assert rows(alias, WHERE) == [("tailrace_event", 0)]
    finally:
        with connect(url) as connection:
            connection.execute("DROP OWNED BY tailrace_drainer")
            connection.execute("DROP ROLE tailrace_drainer")


def test_a_missing_default_partition_is_no_fault_of_the_events(alias: str) -> None:
    backend = make(alias)
    backend.ensure_partitions(NOW)
    rows_before = rows(alias, WHERE)
    with private_connection(alias) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE tailrace_event_default")
    with pytest.raises(BackendMisconfigured, match="default partition"):
        store(backend, NOW + 99 * DAY)
    assert rows(alias, WHERE) == rows_before
    assert rows(alias, "SELECT count(*) FROM tailrace_deadletter") == [(0,)]


# --- tables that have rows


def test_a_table_with_rows_waits_for_the_command(
    alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = make(alias)
    moments = [NOW - 90 * DAY, NOW, NOW + 14 * timedelta(hours=1), NOW + 200 * DAY]
    store(backend, *moments)
    assert backend.ensure_partitions(NOW) == []
    assert "run: manage.py tailrace_partition" in caplog.text
    ids = rows(alias, "SELECT id, uid FROM tailrace_event ORDER BY id")
    assert backend.partition_existing(NOW)
    assert rows(alias, "SELECT id, uid FROM tailrace_event ORDER BY id") == ids
    past, stray = "tailrace_event_past", "tailrace_event_default"
    assert [name for name, _ in rows(alias, WHERE)] == [past, past, past, stray]
    assert not backend.partition_existing(NOW), "once is enough"
    store(backend, NOW + DAY, NOW)
    new_ids = rows(alias, "SELECT id FROM tailrace_event ORDER BY id")[4:]
    assert [key for (key,) in new_ids] == [ids[-1][0] + 1, ids[-1][0] + 2]
    names_now = names(alias)
    assert names_now == [
        past,
        *(f"tailrace_event_d202611{day}" for day in (22, 23, 24, 25)),
        stray,
    ]
    # Once all of it is old enough, the past goes like any other partition.
    dropped = backend.drop_partitions(NOW.replace(hour=0, minute=0) + DAY)
    assert [item.name for item in dropped] == [past]
    assert len(rows(alias, WHERE)) == 2


def test_the_command_partitions_what_the_settings_name(alias: str) -> None:
    entry = {
        "BACKEND": "tailrace.backends.postgres.PostgresBackend",
        "OPTIONS": {"ALIAS": alias, "PARTITION": "month"},
    }
    store(make(alias, None), NOW)
    with override_settings(TAILRACE={"ENABLED": False, "BACKENDS": {"default": entry}}):
        said = [StringIO(), StringIO()]
        for output in said:
            call_command("tailrace_partition", stdout=output)
    assert [output.getvalue() for output in said] == [
        "The table is partitioned.\n",
        "Nothing to do.\n",
    ]
    assert "tailrace_event_past" in names(alias)
    assert len(rows(alias, WHERE)) == 1
    with (
        override_settings(TAILRACE={"ENABLED": False}),
        pytest.raises(CommandError, match="DatabaseBackend has no partitions"),
    ):
        call_command("tailrace_partition")


# --- retention


def test_expired_partitions_and_strays_go(url: str, alias: str) -> None:
    backend = make(alias)
    backend.ensure_partitions(NOW)
    store(backend, NOW - DAY, NOW - DAY, NOW, NOW - 50 * DAY, NOW + 50 * DAY)
    assert backend.drop_partitions(NOW - DAY) != [], "the stray, and no partition"
    assert "tailrace_event_d20261120" in names(alias)
    dropped = backend.drop_partitions(NOW)
    assert [item.name for item in dropped] == ["tailrace_event_d20261120"]
    assert dropped[0].size_bytes > 0
    assert [n for _, n in rows(alias, WHERE)] == [2, 4]
    assert backend.drop_partitions(NOW) == []
    with connect(url) as connection:
        query = "SELECT to_regclass('tailrace_event_d20261120')"
        assert connection.execute(query).fetchone() == (None,)


def test_partitions_can_be_kept(alias: str) -> None:
    backend = make(alias)
    backend.ensure_partitions(NOW)
    store(backend, NOW - DAY)
    assert [item.name for item in backend.drop_partitions(NOW, keep=True)] == [
        "tailrace_event_d20261120"
    ]
    assert rows(alias, WHERE) == []
    assert rows(alias, "SELECT count(*) FROM tailrace_event_d20261120") == [(1,)]
    assert backend.drop_partitions(NOW) == [], "what is kept is no business of ours any more"
    assert rows(alias, "SELECT count(*) FROM tailrace_event_d20261120") == [(1,)]


def test_what_an_interrupted_sweep_has_detached_is_dropped_by_the_next(alias: str) -> None:
    backend = make(alias)
    backend.ensure_partitions(NOW)
    with private_connection(alias) as connection:
        partitions = Partitions(connection)
        expired = partitions.all()[0]
        partitions._detach(expired, ["tailrace_event_default"], keep=False)
    assert [item.name for item in backend.drop_partitions(NOW)] == [expired.name]


def test_without_a_default_partition_it_detaches_concurrently(url: str, alias: str) -> None:
    """A reader that looks on for long holds nobody up; the next sweep ends what it began."""
    backend = make(alias)
    backend.ensure_partitions(NOW)
    with private_connection(alias) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE tailrace_event_default")
    with connect(url) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tailrace_event")
        with pytest.raises(TransientBackendError):
            backend.drop_partitions(NOW, deadline_seconds=0.1)
        store(backend, NOW)
        with private_connection(alias) as connection:
            assert Partitions(connection).all()[0].is_detach_pending
    assert [item.name for item in backend.drop_partitions(NOW)] == ["tailrace_event_d20261120"]


def test_a_reader_in_the_way_holds_up_nobody_else(url: str, alias: str) -> None:
    """The detach gives up after 50 ms and tries again; batches pass in between."""
    backend = make(alias)
    backend.ensure_partitions(NOW)
    result: list[Any] = []

    def sweep() -> None:
        try:
            result.append(backend.drop_partitions(NOW, deadline_seconds=20))
        finally:
            close_private_connections()

    slowest = 0.0
    with connect(url) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tailrace_event")
        thread = threading.Thread(target=sweep)
        thread.start()
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            started = time.monotonic()
            store(backend, NOW)
            slowest = max(slowest, time.monotonic() - started)
        assert thread.is_alive(), "the reader is in its way"
        reader.execute("COMMIT")
    thread.join(20)
    assert [item.name for item in result[0]] == ["tailrace_event_d20261120"]
    assert slowest < 1.0, "50 ms of waiting, and a busy machine"


def test_a_lock_that_is_never_free_is_reported(url: str, alias: str) -> None:
    backend = make(alias)
    backend.ensure_partitions(NOW)
    with connect(url) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tailrace_event")
        with pytest.raises(TransientBackendError, match="lock timeout"):
            backend.drop_partitions(NOW, deadline_seconds=0.2)
    assert "tailrace_event_d20261120" in names(alias)
