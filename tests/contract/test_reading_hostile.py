"""100,000 hostile strings in every argument: no other statement, no crash, no row touched.

SQLite's authorizer sees every action of every statement before it runs; here it lets nothing
but reading pass. On PostgreSQL and MariaDB the transaction is read-only. On all of them the
texts that were sent are collected: what is asked for must never show in one.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import transaction
from reading_models import Station, WeatherStationReading, tables

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.private_connection import private_connection
from tailrace.backends.testing.reading_arguments import hostile_text
from tailrace.backends.testing.reading_data import make
from tailrace.backends.testing.reading_tools import ReaderTools
from tailrace.pipeline.event import KEY_MAX_CHARS

NOW = datetime(2024, 5, 15, tzinfo=UTC)
READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, 33}  # RECURSIVE
STRINGS_A_CALL = 45
STRINGS = {"sqlite_database": 100_000, "postgres_contract_database": 10_000}


class Names:
    """Hostile strings, counted."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.made = 0

    def any(self) -> str:
        """Return one, of whatever length and with whatever in it."""
        self.made += 1
        return hostile_text(self._random)

    def storable(self) -> str:
        """Return one that an event's name could be, so that a database gets to see it."""
        text = "".join(c for c in self.any() if c != "\0" and not "\ud800" <= c <= "\udfff")
        return text[:KEY_MAX_CHARS] or "x"

    def many(self, count: int) -> list[str]:
        """Return several, all different."""
        return list(dict.fromkeys(self.storable() for _ in range(count)))


def refused(names: Names) -> list[Callable[[Any], Any]]:
    """Return calls with one argument each that is anything at all."""
    text = names.any
    return [
        lambda b: b.query(text()),
        lambda b: b.query("m", order=text()),
        lambda b: b.query("m", trace_id=text()),
        lambda b: b.query(WeatherStationReading, fields=[text()]),
        lambda b: b.query_readings(WeatherStationReading, order=text()),
        lambda b: b.query_readings(WeatherStationReading, fields=[text()]),
        lambda b: b.query_readings(WeatherStationReading, device=text()),
        lambda b: b.aggregate("m", text(), text()),
        lambda b: b.aggregate("m", "v", text()),
        lambda b: b.aggregate("m", "v", interval=text()),
        lambda b: b.aggregate("m", "v", interval="day", tz=text()),
        lambda b: b.aggregate("m", "v", interval="day", fill=text()),
        lambda b: b.aggregate(WeatherStationReading, text(), "max"),
        lambda b: b.aggregate(WeatherStationReading, "visitors", group_by=[text()]),
        lambda b: b.aggregate(WeatherStationReading, "visitors", tags={text(): 1}),
        lambda b: b.aggregate(WeatherStationReading, "visitors", tags={"note": text()}),
    ]


def answered(names: Names) -> list[Callable[[Any], Any]]:
    """Return calls in which all names are possible ones."""
    few, more = names.many(4), names.many(STRINGS_A_CALL - 6)
    field, measurement = names.storable(), names.storable()
    tags = dict(zip(few, more, strict=False))
    return [
        lambda b: b.query(measurement, tags=tags, fields=more, trace_id=field[:64]),
        lambda b: b.query("m", tags={few[0]: more}, order="time"),
        lambda b: b.aggregate("m", field, "p95", interval="hour", tz="Europe/Berlin", group_by=few),
        lambda b: b.aggregate("m", field, "sum", group_by=few, tags={few[-1]: [*more, None]}),
        lambda b: b.aggregate(measurement, field, "count", tags=tags, device=more[0]),
    ]


@contextmanager
def watched(alias: str) -> Iterator[list[str]]:
    """Collect the texts of statements; let only reading through."""
    texts: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        texts.append(sql)
        return execute(sql, params, many, context)

    with private_connection(alias) as connection:
        connection.ensure_connection()
        if connection.vendor == "sqlite":
            # Its first use in a connection creates the virtual table.
            connection.connection.execute("SELECT 1 FROM json_each('{}')")
            connection.connection.set_authorizer(
                lambda action, *_: sqlite3.SQLITE_OK if action in READS else sqlite3.SQLITE_DENY
            )
            try:
                with connection.execute_wrapper(note):
                    yield texts
            finally:
                connection.connection.set_authorizer(None)
        else:
            with transaction.atomic(using=alias):
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION READ ONLY")
                with connection.execute_wrapper(note):
                    yield texts


@pytest.fixture(params=STRINGS)
def database(request: pytest.FixtureRequest) -> Iterator[Any]:
    from django.test import override_settings

    made = request.getfixturevalue(request.param)
    made.empty()
    with (
        override_settings(DATABASE_ROUTERS=["reading_models.ReadingsRouter"]),
        tables(made.alias),
    ):
        made.strings = STRINGS[request.param]
        yield made


def test_hostile_strings_are_values_or_refused(database: Any) -> None:
    backend = DjangoDBBackend("default", {"ALIAS": database.alias})
    events = [make("m", NOW, {"route": "a"}, {"v": n}) for n in range(3)]
    tools = ReaderTools()
    tools.make_backend = lambda: backend  # type: ignore[method-assign]
    tools.stored(*events)
    station = Station.objects.using(database.alias).create(name="s")
    WeatherStationReading.objects.using(database.alias).create(device=station, timestamp=NOW)
    names, ran, stopped = Names(20_240_515), 0, 0
    with watched(database.alias) as texts:
        while names.made < database.strings:
            for call in (*refused(names), *answered(names)):
                try:
                    call(backend)
                    ran += 1
                except ValueError:
                    stopped += 1
    shapes = {text.replace(", %s", "") for text in texts}
    print(f"{names.made} strings, {ran} calls ran, {stopped} were refused, {len(shapes)} texts")
    assert ran > names.made / 50
    assert stopped > names.made / 50
    assert len(shapes) < 60, sorted(shapes, key=len)[-1]
    assert backend.aggregate("m", "v", "sum") == {"result": 3}
    assert backend.aggregate(WeatherStationReading, None, "count") == {"result": 1}
    assert database.count("Event") == 3


def test_the_watch_would_notice(database: Any) -> None:
    from django.db import DatabaseError

    statement = "DELETE FROM tailrace_event"
    with (
        pytest.raises(DatabaseError),
        watched(database.alias) as texts,
        private_connection(database.alias) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert texts == [statement]
