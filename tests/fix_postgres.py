"""Fixtures: a private PostgreSQL primary for the whole run, and a streaming replica of it.

``TAILRACE_TEST_POSTGRES_DSN`` (a URL whose user may create databases) takes the place of the
primary for tests that only need a database; tests that stop servers always start their own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from postgres_server import NoPostgres, PostgresServer
from psycopg import sql

DSN_VARIABLE = "TAILRACE_TEST_POSTGRES_DSN"


@pytest.fixture(scope="session")
def postgres_primary() -> Iterator[PostgresServer]:
    """A primary that tests share; put it back as it was."""
    try:
        server = PostgresServer()
    except NoPostgres as error:
        pytest.skip(str(error))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def shared_postgres_replica(postgres_primary: PostgresServer) -> Iterator[PostgresServer]:
    """The streaming replica; use ``postgres_replica``, which sees to it that it runs."""
    server = PostgresServer(standby_of=postgres_primary)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_replica(shared_postgres_replica: PostgresServer) -> Iterator[PostgresServer]:
    """A streaming replica that the test may pause, stop or kill."""
    if shared_postgres_replica._process is None:
        shared_postgres_replica.start()
    yield shared_postgres_replica
    if shared_postgres_replica._process is not None:
        with shared_postgres_replica.connect() as connection:
            connection.execute("SELECT pg_wal_replay_resume()")


@pytest.fixture
def postgres_database(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Make new, empty databases: call it with a readable name, get a URL."""
    external = os.environ.get(DSN_VARIABLE)
    server: PostgresServer | None = None
    if external is None:
        server = request.getfixturevalue("postgres_primary")
    admin_url = external or server.url("postgres")
    made: list[str] = []

    def make(name: str) -> str:
        database = f"{name}_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(_libpq_url(admin_url), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        made.append(database)
        return urlunsplit(urlsplit(admin_url)._replace(path=f"/{database}"))

    yield make
    with psycopg.connect(_libpq_url(admin_url), autocommit=True) as connection:
        for database in made:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(database)))


def _libpq_url(url: str) -> str:
    return url.replace("postgres://", "postgresql://", 1)
