"""Fixtures of the backfill tests: sites with two databases, and a store."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from backfill.copy_site import CopySite
from django.conf import settings
from django.db import connections
from postgres_server import PostgresServer
from psycopg import sql
from servers import RedisServer

from tailrace.backends.private_connection import close_private_connections
from tailrace.django_integration.backfills.store import OrmStore

PAIRS = ["sqlite-sqlite", "sqlite-postgres", "postgres-postgres", "postgres-sqlite"]
_numbers = itertools.count(1)

MakeSite = Callable[..., CopySite]


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of everything random in a test: printed, and taken from ``SEED`` if set."""
    found = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"SEED={found} replays {request.node.name}")
    return found


@pytest.fixture(scope="session")
def template_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy: migrating takes longer than most tests here."""
    made = CopySite(tmp_path_factory.mktemp("template"), "redis://127.0.0.1:1/0", "", "")
    made.migrate()
    path = made.directory / "shop.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(scope="session")
def make_postgres(
    tmp_path_factory: pytest.TempPathFactory, postgres_primary: PostgresServer
) -> Callable[[], str]:
    """Makes migrated databases, by copying one."""
    template = f"backfill_{uuid.uuid4().hex[:8]}"
    url = postgres_primary.create_database(template)
    made = CopySite(tmp_path_factory.mktemp("template"), "redis://127.0.0.1:1/0", url, "")
    made.migrate()

    def copy() -> str:
        name = f"backfill_{uuid.uuid4().hex[:8]}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with postgres_primary.connect() as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return postgres_primary.url(name)

    return copy


@pytest.fixture
def make_site(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    template_sqlite: Path,
) -> Iterator[MakeSite]:
    """Makes a site: ``make_site("sqlite-postgres")``, with Redis where it is asked for."""
    made: list[CopySite] = []

    def make(pair: str, redis: RedisServer | None = None, is_dual: bool = False) -> CopySite:
        urls = []
        for engine, name in zip(pair.split("-"), ("shop", "telemetry"), strict=True):
            if engine == "postgres":
                urls.append(request.getfixturevalue("make_postgres")())
            else:
                shutil.copy(template_sqlite, tmp_path / f"{name}.sqlite3")
                urls.append("")
        redis_url = redis.url() if redis else "redis://127.0.0.1:1/0"
        made.append(CopySite(tmp_path, redis_url, *urls, is_dual=is_dual))
        return made[-1]

    yield make
    for site in made:
        site.stop_all()


@pytest.fixture(params=PAIRS)
def site(request: pytest.FixtureRequest, make_site: MakeSite) -> CopySite:
    """A site of each pair of databases, without Redis."""
    return make_site(request.param)


@pytest.fixture
def store(tmp_path: Path, template_sqlite: Path, django_db_blocker: Any) -> Iterator[OrmStore]:
    """A store of backfills in this process, on a SQLite file."""
    alias = f"backfill_{next(_numbers)}"
    path = tmp_path / f"{alias}.sqlite3"
    shutil.copy(template_sqlite, path)
    entry: dict[str, Any] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": settings.DATABASES["default"]["OPTIONS"],
    }
    settings.DATABASES[alias] = entry
    connections.configure_settings(settings.DATABASES)
    try:
        with django_db_blocker.unblock():
            yield OrmStore(alias)
    finally:
        close_private_connections(alias)
        connections[alias].close()
        del connections[alias]
        del settings.DATABASES[alias]
