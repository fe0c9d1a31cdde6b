"""The real databases that rollups are tested on, one alias an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dj_database_url
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from postgres_server import PASSWORD, USER

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.private_connection import close_private_connections
from tailrace.pipeline.event import Event

ENGINES = ("sqlite", "postgres", "mariadb")


class Store:
    """An alias that has Tailrace's tables."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.backend = DjangoDBBackend("default", {"ALIAS": alias})

    def rows(self, model: str) -> Any:
        """Return all rows of a model of ours."""
        return apps.get_model("tailrace", model)._base_manager.using(self.alias).all()

    def empty(self) -> None:
        """Delete every row."""
        for model in apps.get_app_config("tailrace").get_models():
            model._base_manager.using(self.alias).all().delete()

    def add(self, events: Sequence[Event]) -> None:
        """Store events, past the drain."""
        model = apps.get_model("tailrace", "Event")
        self.rows("Event").bulk_create(
            model(
                uid=event.uuid,
                measurement=event.measurement,
                time=event.time,
                tags=event.tags,
                fields=event.fields,
                trace_id="",
            )
            for event in events
        )


@contextmanager
def alias_added(alias: str, **config: Any) -> Iterator[Store]:
    """Add an alias for a while, and migrate it."""
    template = connections.configure_settings({"default": {}, alias: config})[alias]
    connections.settings[alias] = template
    try:
        call_command("migrate", "tailrace", database=alias, verbosity=0)
        yield Store(alias)
    finally:
        connections[alias].close()
        close_private_connections(alias)
        del connections[alias]
        del connections.settings[alias]


def config_of(engine: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    """Return the settings of a new, empty database."""
    if engine == "sqlite":
        options = {
            "timeout": 10,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
        }
        name = str(folder / "rollups.sqlite3")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": options}
    if engine == "postgres":
        server = request.getfixturevalue("postgres_primary")
        name = f"rollups_{abs(hash(folder.name)) % 10**8}"
        server.create_database(name)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "HOST": server.host,
            "PORT": server.port,
            "USER": USER,
            "PASSWORD": PASSWORD,
        }
    make: Callable[[str], str] = request.getfixturevalue("make_mariadb_database")
    return dict(dj_database_url.parse(make("rollups")))


@pytest.fixture(scope="module", params=ENGINES)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Iterator[Store]:
    """A database of each engine."""
    folder = tmp_path_factory.mktemp("rollups")
    with django_db_blocker.unblock():
        config = config_of(request.param, request, folder)
        with alias_added(f"rollups_{request.param}", **config) as made:
            yield made
