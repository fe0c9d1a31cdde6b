"""Fixtures: a private MariaDB (or MySQL) for the whole run, and new databases on it.

Skipped, with the reason, where the machine has no server: no wheel ships one.
``TAILRACE_TEST_MYSQL_DSN`` (``mysql://user:password@host:port``, a user who may create databases)
names one that runs elsewhere.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from mariadb_server import MariaDBServer, NoMariaDB, execute, use_pymysql

DSN_VARIABLE = "TAILRACE_TEST_MYSQL_DSN"

use_pymysql()


@pytest.fixture(scope="session")
def mariadb_server_url() -> Iterator[str]:
    """The URL of a server, without a database."""
    external = os.environ.get(DSN_VARIABLE)
    if external:
        yield external
        return
    try:
        server = MariaDBServer()
    except NoMariaDB as error:
        pytest.skip(f"{error}, or set {DSN_VARIABLE}")
    try:
        server.start()
        yield server.url()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def make_mariadb_database(mariadb_server_url: str) -> Iterator[Callable[[str], str]]:
    """Make new, empty databases: call it with a readable name, get a URL."""
    made: list[str] = []

    def make(name: str) -> str:
        database = f"{name}_{uuid.uuid4().hex[:8]}"
        execute(mariadb_server_url, f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
        made.append(database)
        return urlunsplit(urlsplit(mariadb_server_url)._replace(path=f"/{database}"))

    yield make
    for database in made:
        execute(mariadb_server_url, f"DROP DATABASE {database}")
