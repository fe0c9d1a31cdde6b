"""How the answers come about: by the index, in the database, on a connection of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.null import NullBackend
from tailrace.backends.private_connection import private_connection
from tailrace.backends.testing.reading_data import FUNCTIONS, make
from tailrace.backends.testing.reading_tools import ReaderTools
from tailrace.pipeline.context import SUPPRESSED, current_trace
from tailrace.pipeline.errors import BackendMisconfigured, NotSupportedByBackend

START = datetime(2024, 1, 1, tzinfo=UTC)
EVENTS = 6_000
WINDOW = {"start": START, "end": START + timedelta(minutes=5)}
INDEX = "tailrace_event_meas_time"
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "query": lambda b: b.query("m", **WINDOW),
    "newest": lambda b: b.query("m", limit=3),
    "by tag": lambda b: b.query("m", tags={"route": "a"}, **WINDOW),
    "count": lambda b: b.aggregate("m", None, "count", **WINDOW),
    "scalar": lambda b: b.aggregate("m", "v", **WINDOW),
    "buckets": lambda b: b.downsample("m", "v", "1h", group_by=["route"], **WINDOW),
    "zone": lambda b: b.downsample("m", "v", "day", "p95", tz="Europe/Berlin", **WINDOW),
    "open": lambda b: b.downsample("m", "v", "day", tz="Europe/Berlin", end=WINDOW["end"]),
}


@pytest.fixture(scope="module", params=["sqlite_database", "postgres_contract_database"])
def backend(request: pytest.FixtureRequest) -> Any:
    database = request.getfixturevalue(request.param)
    database.empty()
    made = DjangoDBBackend("default", {"ALIAS": database.alias})
    tools = ReaderTools()
    tools.make_backend = lambda: made  # type: ignore[method-assign]
    # Spread over measurements, so that reading one is better done by the index.
    tools.stored(
        *(
            make(f"m{n % 20 or ''}", START + timedelta(seconds=n), {"route": "a"}, {"v": n})
            for n in range(EVENTS)
        )
    )
    with connections[database.alias].cursor() as cursor:
        cursor.execute("ANALYZE")
    return made


@contextmanager
def statements(alias: str) -> Iterator[list[tuple[str, Any]]]:
    """Collect what our own connection asks of the events; not whether there are rollups."""
    sent: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        assert current_trace() is SUPPRESSED
        if "tailrace_event" in sql:
            sent.append((sql, params))
        return execute(sql, params, many, context)

    with private_connection(alias) as connection, connection.execute_wrapper(note):
        yield sent


def explained(alias: str, sql: str, params: Any) -> str:
    """Return the plan of a statement."""
    connection = connections[alias]
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        cursor.execute(explain + sql, params)
        return "\n".join(str(row) for row in cursor.fetchall())


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_are_answered_by_the_index(backend: Any, question: str) -> None:
    alias = backend.get_db_alias()
    with statements(alias) as sent:
        assert QUESTIONS[question](backend)
    for sql, params in sent:
        plan = explained(alias, sql, params)
        assert INDEX in plan, plan
        if connections[alias].vendor == "sqlite":
            assert "measurement=? AND time" in plan or question in ("newest", "open"), plan


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_are_computed_in_the_database(backend: Any, function: str) -> None:
    """What comes back is one row a bucket, whatever is asked."""
    alias = backend.get_db_alias()
    with statements(alias) as sent:
        rows = backend.downsample("m", "v", "hour", function)
    assert len(rows) == 2
    ((sql, params),) = sent
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        assert len(cursor.fetchall()) == 2


def test_reading_is_done_outside_of_the_hosts_transaction(backend: Any) -> None:
    """One that is broken, and on PostgreSQL answers nothing any more."""
    alias = backend.get_db_alias()
    with pytest.raises(DatabaseError), transaction.atomic(using=alias):  # noqa: PT012
        with pytest.raises(DatabaseError), connections[alias].cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
        assert len(backend.query("m", limit=2)) == 2
        assert backend.aggregate("m", None, "count") == {"result": EVENTS // 20}
        raise DatabaseError


def test_reading_records_nothing_and_leaves_the_context_as_it_was(backend: Any) -> None:
    before = current_trace()
    with statements(backend.get_db_alias()) as sent:
        backend.query("m", limit=1)
    assert sent
    assert current_trace() is before


def test_a_wide_window_in_a_zone_costs_two_look_ups_more(backend: Any) -> None:
    with statements(backend.get_db_alias()) as sent:
        backend.downsample(
            *("m", "v", "month"),
            start=datetime(2, 1, 1, tzinfo=UTC),
            end=datetime(9998, 1, 1, tzinfo=UTC),
            tz="Europe/Berlin",
        )
    assert len(sent) == 3


def test_a_missing_table_says_what_to_run(sqlite_database: Any, tmp_path: Any) -> None:
    name = "reading_without_tables"
    config = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "empty.sqlite3")}
    connections.settings[name] = connections.configure_settings({"default": {}, name: config})[name]
    try:
        backend = DjangoDBBackend("default", {"ALIAS": name})
        for ask in (lambda: backend.query("m"), lambda: backend.aggregate("m", "v")):
            with pytest.raises(BackendMisconfigured, match="migrate tailrace"):
                ask()
    finally:
        with private_connection(name) as connection:
            connection.close()
        del connections.settings[name]


@pytest.mark.parametrize("ask", ["query", "aggregate", "query_readings", "downsample"])
def test_a_backend_that_keeps_nothing_says_so(ask: str) -> None:
    backend = NullBackend("default", {})
    arguments = {
        "query": ("m",),
        "aggregate": ("m", "v"),
        "query_readings": (object,),
        "downsample": ("m", "v", "hour"),
    }
    with pytest.raises(NotSupportedByBackend, match="DatabaseBackend"):
        getattr(backend, ask)(*arguments[ask])
