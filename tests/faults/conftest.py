"""Fixtures of the fault tests."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from faults.harness import Site
from postgres_server import PostgresServer
from psycopg import sql
from servers import RedisServer


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of everything random in a test: printed, and taken from ``SEED`` if set."""
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"SEED={seed} replays {request.node.name}")
    return seed


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file to copy: migrating takes longer than most tests here."""
    made = Site(tmp_path_factory.mktemp("template"), "redis://127.0.0.1:1/0")
    made.migrate()
    path = made.directory / "shop.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(
    tmp_path_factory: pytest.TempPathFactory, postgres_primary: PostgresServer
) -> Callable[[], str]:
    """Makes migrated databases, by copying one."""
    template = f"template_{uuid.uuid4().hex[:8]}"
    url = postgres_primary.create_database(template)
    Site(tmp_path_factory.mktemp("template"), "redis://127.0.0.1:1/0", url).migrate()

    def copy() -> str:
        name = f"faults_{uuid.uuid4().hex[:8]}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with postgres_primary.connect() as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return postgres_primary.url(name)

    return copy


@pytest.fixture(params=["sqlite", "postgres"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, own_redis_server: RedisServer
) -> Iterator[Site]:
    """A migrated site, on SQLite and on PostgreSQL."""
    url = ""
    if request.param == "postgres":
        url = request.getfixturevalue("migrated_postgres")()
    else:
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path)
    made = Site(tmp_path, own_redis_server.url(), url)
    yield made
    made.stop_all()


@pytest.fixture
def sqlite_site(
    tmp_path: Path, own_redis_server: RedisServer, migrated_sqlite: Path
) -> Iterator[Site]:
    """A migrated site on SQLite."""
    shutil.copy(migrated_sqlite, tmp_path)
    made = Site(tmp_path, own_redis_server.url())
    yield made
    made.stop_all()
