"""Fixtures: a private TimescaleDB for the whole run, and empty databases on it.

``TAILRACE_TEST_TIMESCALE_DSN`` (a URL whose user may create databases and the extension) takes
its place with a full server.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from timescale_server import NoTimescale, TimescaleServer

DSN_VARIABLE = "TAILRACE_TEST_TIMESCALE_DSN"


@pytest.fixture(scope="session")
def timescale_server() -> Iterator[TimescaleServer]:
    """The server in WebAssembly that tests share, one after the other."""
    try:
        server = TimescaleServer()
    except NoTimescale as error:
        pytest.skip(str(error))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def timescale_database_of_module(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """As ``timescale_database``, for all the tests of a module together."""
    yield from _databases(request)


@pytest.fixture
def timescale_database(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Return an empty database with the extension: call it with a readable name, get a URL.

    A test has one at a time: without a full server there is but one, which is emptied.
    """
    yield from _databases(request)


def _databases(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    external = os.environ.get(DSN_VARIABLE)
    if external is None:
        server: TimescaleServer = request.getfixturevalue("timescale_server")

        def emptied(name: str) -> str:
            server.empty()
            return server.url

        yield emptied
        return
    made: list[str] = []

    def make(name: str) -> str:
        database = f"{name}_{uuid.uuid4().hex[:8]}"
        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database))
        _execute(external, create)
        made.append(database)
        url = urlunsplit(urlsplit(external)._replace(path=f"/{database}"))
        _execute(url, sql.SQL("CREATE EXTENSION IF NOT EXISTS timescaledb"))
        return url

    yield make
    for database in made:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        _execute(external, drop.format(sql.Identifier(database)))


def _execute(url: str, query: sql.Composable) -> None:
    plain = url.replace("postgres://", "postgresql://", 1)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(query)
