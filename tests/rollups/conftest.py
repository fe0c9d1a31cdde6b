"""Engines for the tests of rollups and retention: an alias with Tailrace's tables, and a backend.

``engine`` runs a test on each of SQLite, PostgreSQL (by the ORM and by COPY) and MariaDB;
``timescale_engine`` is a TimescaleDB. Each test finds the tables empty.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from postgres_alias import postgres_alias
from postgres_server import PostgresServer

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.postgres import PostgresBackend
from tailrace.backends.private_connection import private_connection
from tailrace.backends.rollups.declared import register_rollup, unregister_rollup
from tailrace.backends.timescale import TimescaleDBBackend
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.event import Event, ns_from_datetime
from tailrace.pipeline.recording import configure

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)


def event(
    at: datetime | int,
    tags: Mapping[str, str] | None = None,
    fields: Mapping[str, Any] | None = None,
    measurement: str = "m",
) -> Event:
    """Return an event; ``at`` is a datetime, or microseconds since 1970."""
    time_ns = at * 1_000 if isinstance(at, int) else ns_from_datetime(at)
    return Event(measurement, time_ns, dict(tags or {}), dict(fields or {}), id=uuid.uuid4().bytes)


class Engine:
    """A database alias, and backends on it."""

    def __init__(self, name: str, alias: str, backend_class: type[DjangoDBBackend]) -> None:
        self.name = name
        self.alias = alias
        self.backend_class = backend_class
        self._positions = itertools.count(1)
        self._registered: list[str] = []

    def backend(self) -> Any:
        """Return a new backend, as another process would have it.

        The settings know no backend of this name, so that it has no built-in rollups.
        """
        made = self.backend_class("probe", {"ALIAS": self.alias})
        made.setup()
        return made

    def declare(self, name: str, source: str = "m", **options: Any) -> Any:
        """Declare a rollup in code until the test ends, and return it."""
        self._registered.append(name)
        return register_rollup(name, source, **options)

    def undeclare(self, name: str) -> None:
        """Take a declaration back."""
        self._registered.remove(name)
        unregister_rollup(name)

    def drain(self, backend: Any, events: Sequence[Event], shard: int = 0) -> None:
        """Store events as a drain does."""
        if backend.read_checkpoint(shard) is None:
            backend.create_checkpoint(Checkpoint(shard))
        with backend.transaction(shard) as tx:
            if events:
                tx.write(events)
            found = tx.checkpoint
            tx.advance(Checkpoint(shard, f"{next(self._positions)}-0", "e", found.created_ns), [])

    def rows(self, model: str) -> Any:
        """Return a query set of one of Tailrace's models."""
        manager: Any = apps.get_model("tailrace", model)._base_manager
        return manager.using(self.alias)

    def empty(self) -> None:
        """Delete every row, and forget what tests declared."""
        for name in list(self._registered):
            self.undeclare(name)
        with private_connection(self.alias):
            for model in apps.get_app_config("tailrace").get_models():
                rows = model._base_manager.using(self.alias).all()
                rows._raw_delete(self.alias)


def make_engine(name: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Make an engine by name; the servers come from the fixtures of the whole suite."""
    classes: dict[str, type[DjangoDBBackend]] = {
        "sqlite": DjangoDBBackend,
        "mariadb": DjangoDBBackend,
        "postgres_orm": DjangoDBBackend,
        "postgres_copy": PostgresBackend,
        "timescale": TimescaleDBBackend,
    }
    options: dict[str, Any] = {}
    if name == "sqlite":
        folder: Path = request.getfixturevalue("tmp_path_factory").mktemp("rollups")
        url = f"sqlite:///{folder / 'telemetry.sqlite3'}"
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
        options = {"timeout": 20, "init_command": pragmas}
    elif name == "mariadb":
        url = request.getfixturevalue("make_mariadb_database")("rollups")
    elif name == "timescale":
        url = request.getfixturevalue("timescale_database_of_module")("rollups")
    else:
        server: PostgresServer = request.getfixturevalue("postgres_primary")
        url = server.create_database(f"rollups_{uuid.uuid4().hex[:8]}")
    blocker: Any = request.getfixturevalue("django_db_blocker")
    with blocker.unblock(), postgres_alias(url, **options) as alias:
        yield Engine(name, alias, classes[name])


@pytest.fixture(autouse=True)
def _record_nothing() -> None:
    """Stop what another test's ``settings`` have started: there is no Redis to send it to."""
    configure(None)


@pytest.fixture(scope="module", params=["sqlite", "postgres_orm", "postgres_copy", "mariadb"])
def engine_of_module(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine that the tests of a module share."""
    yield from make_engine(request.param, request)


@pytest.fixture
def engine(engine_of_module: Engine) -> Iterator[Engine]:
    """An engine with empty tables; tests run on each."""
    engine_of_module.empty()
    yield engine_of_module
    engine_of_module.empty()


@pytest.fixture(scope="module")
def sqlite_engine_of_module(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """SQLite only, for a module."""
    yield from make_engine("sqlite", request)


@pytest.fixture
def sqlite_engine(sqlite_engine_of_module: Engine) -> Iterator[Engine]:
    """SQLite only, with empty tables."""
    sqlite_engine_of_module.empty()
    yield sqlite_engine_of_module
    sqlite_engine_of_module.empty()


@pytest.fixture(scope="module")
def postgres_engine_of_module(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """PostgreSQL by COPY only, for a module."""
    yield from make_engine("postgres_copy", request)


@pytest.fixture
def postgres_engine(postgres_engine_of_module: Engine) -> Iterator[Engine]:
    """PostgreSQL by COPY only, with empty tables."""
    postgres_engine_of_module.empty()
    yield postgres_engine_of_module
    postgres_engine_of_module.empty()


@pytest.fixture(scope="module")
def timescale_engine_of_module(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """TimescaleDB, for a module."""
    yield from make_engine("timescale", request)


@pytest.fixture
def timescale_engine(timescale_engine_of_module: Engine) -> Iterator[Engine]:
    """TimescaleDB, with empty tables."""
    timescale_engine_of_module.empty()
    yield timescale_engine_of_module
    timescale_engine_of_module.empty()


@pytest.fixture(scope="session")
def make_rollup_engine() -> Callable[[str, pytest.FixtureRequest], Iterator[Engine]]:
    """Return :func:`make_engine`, for fixtures of other modules."""
    return make_engine
