"""Databases for the suite: one alias an engine, with Tailrace's tables in it, emptied often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dj_database_url
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from postgres_server import PASSWORD, USER, PostgresServer

from tailrace.backends.private_connection import close_private_connections


class ContractDatabase:
    """An alias that holds Tailrace's tables."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def empty(self) -> None:
        """Delete every row."""
        for model in apps.get_app_config("tailrace").get_models():
            model._base_manager.using(self.alias).all().delete()

    def count(self, model: str) -> int:
        """Return the number of rows of a model of ours."""
        manager: Any = apps.get_model("tailrace", model)._base_manager
        return int(manager.using(self.alias).count())

    def events(self) -> list[dict[str, Any]]:
        """Return all events in the form of ``Event.as_dict()``."""
        rows: Any = apps.get_model("tailrace", "Event")._base_manager.using(self.alias).all()
        return [
            {
                "measurement": row.measurement,
                "time": row.time,
                "tags": row.tags,
                "fields": row.fields,
                "trace_id": row.trace_id or None,
                "id": str(row.uid),
            }
            for row in rows
        ]


@pytest.fixture(scope="module")
def add_alias(django_db_blocker: Any) -> Iterator[Callable[..., ContractDatabase]]:
    """Add an alias and migrate it: ``add_alias("contract", ENGINE=..., NAME=...)``."""
    added: list[str] = []

    def add(alias: str, **config: Any) -> ContractDatabase:
        template = connections.configure_settings({"default": {}, alias: config})[alias]
        connections.settings[alias] = template
        added.append(alias)
        call_command("migrate", "tailrace", database=alias, verbosity=0)
        return ContractDatabase(alias)

    with django_db_blocker.unblock():
        yield add
        for alias in added:
            connections[alias].close()
            close_private_connections(alias)
            del connections[alias]
            del connections.settings[alias]


@pytest.fixture(scope="module")
def sqlite_database(
    add_alias: Callable[..., ContractDatabase], tmp_path_factory: pytest.TempPathFactory
) -> ContractDatabase:
    """A SQLite file."""
    path: Path = tmp_path_factory.mktemp("contract") / "telemetry.sqlite3"
    options = {"timeout": 10, "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"}
    return add_alias(
        "contract_sqlite", ENGINE="django.db.backends.sqlite3", NAME=str(path), OPTIONS=options
    )


@pytest.fixture(scope="module")
def postgres_contract_database(
    add_alias: Callable[..., ContractDatabase], postgres_primary: PostgresServer
) -> ContractDatabase:
    """A database on the private PostgreSQL server."""
    postgres_primary.create_database("contract")
    return add_alias(
        "contract_postgres",
        ENGINE="django.db.backends.postgresql",
        NAME="contract",
        HOST=postgres_primary.host,
        PORT=postgres_primary.port,
        USER=USER,
        PASSWORD=PASSWORD,
    )


@pytest.fixture(scope="module")
def mariadb_contract_database(
    make_mariadb_database: Callable[[str], str], add_alias: Callable[..., ContractDatabase]
) -> ContractDatabase:
    """A database on the private MariaDB server."""
    config = dj_database_url.parse(make_mariadb_database("contract"))
    return add_alias("contract_mariadb", **config)
