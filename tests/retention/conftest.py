"""Databases for the tests of jobs and retention: one alias an engine, migrated, emptied often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dj_database_url
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from retention.site import Site

from tailrace.backends.private_connection import close_private_connections
from tailrace.backends.registry import backends
from tailrace.backends.retention import slices
from tailrace.backends.retention import sweep as sweep_module
from tailrace.pipeline.config import Config

ENGINES = ("sqlite", "postgres", "mariadb")
_SQLITE = {"timeout": 10, "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"}


class Database:
    """An alias that holds Tailrace's tables."""

    def __init__(self, alias: str, engine: str) -> None:
        self.alias = alias
        self.engine = engine

    def rows(self, model: str) -> Any:
        """Return the rows of a model of ours."""
        manager: Any = apps.get_model("tailrace", model)._base_manager
        return manager.using(self.alias)

    def empty(self) -> None:
        """Delete every row."""
        for model in apps.get_app_config("tailrace").get_models():
            model._base_manager.using(self.alias).all().delete()


@pytest.fixture(scope="module", params=ENGINES)
def database_of_module(
    request: pytest.FixtureRequest, django_db_blocker: Any
) -> Iterator[Database]:
    """One alias for a module's tests."""
    engine = request.param
    alias = f"retention_{engine}"
    config = _config(engine, request)
    template = connections.configure_settings({"default": {}, alias: config})[alias]
    connections.settings[alias] = template
    with django_db_blocker.unblock():
        call_command("migrate", "tailrace", database=alias, verbosity=0)
        yield Database(alias, engine)
        connections[alias].close()
        close_private_connections(alias)
        del connections[alias]
        del connections.settings[alias]


@pytest.fixture
def database(database_of_module: Database) -> Iterator[Database]:
    """The alias, with nothing in it."""
    database_of_module.empty()
    yield database_of_module
    close_private_connections(database_of_module.alias)


@pytest.fixture
def now() -> datetime:
    """What time it is for retention; a test may be given others."""
    return datetime(2024, 5, 15, 12, 34, 56, tzinfo=UTC)


@pytest.fixture
def site(database: Database, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(slices, "_sleep", lambda seconds: None)
    monkeypatch.setattr(sweep_module, "_utc_now", lambda: now)
    known = backends._config
    no_rollups = dict.fromkeys(("requests", "queries", "exceptions", "jobs"), False)
    backends.configure(lambda: Config(rollups=no_rollups))
    yield Site(database, now)
    backends.configure(known)


def _config(engine: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    if engine == "sqlite":
        folder: Path = request.getfixturevalue("tmp_path_factory").mktemp("retention")
        name = str(folder / "telemetry.sqlite3")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": _SQLITE}
    if engine == "postgres":
        server = request.getfixturevalue("postgres_primary")
        return dict(dj_database_url.parse(server.create_database("retention_tests")))
    make: Callable[[str], str] = request.getfixturevalue("make_mariadb_database")
    return dict(dj_database_url.parse(make("retention")))
