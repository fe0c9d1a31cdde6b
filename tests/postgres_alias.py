"""A database alias of a test's own, on a real PostgreSQL server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dj_database_url
import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from tailrace.backends.private_connection import close_private_connections, private_connection

# Connections are kept by alias, so each test's alias has a name of its own.
_numbers = itertools.count(1)

TABLES = ("event", "shardcheckpoint", "producermark", "ledgerentry", "deadletter", "exceptiongroup")


@contextmanager
def postgres_alias(url: str, *, migrate: bool = True, **options: Any) -> Iterator[str]:
    """Add an alias for the database at ``url`` to ``DATABASES``.

    Args:
        url: Of an empty database.
        migrate: Whether to make Tailrace's tables in it.
        **options: The alias's ``OPTIONS``.

    Yields:
        The alias's name.
    """
    alias = f"postgres_{next(_numbers)}"
    entry: dict[str, Any] = {**dj_database_url.parse(url), "OPTIONS": options}
    settings.DATABASES[alias] = entry
    connections.configure_settings(settings.DATABASES)
    try:
        if migrate:
            call_command("migrate", "tailrace", database=alias, verbosity=0)
        yield alias
    finally:
        close_private_connections()
        connections[alias].close()
        if options.get("pool"):
            connections[alias].close_pool()
        del connections[alias]
        del settings.DATABASES[alias]


def truncate(alias: str) -> None:
    """Empty Tailrace's tables."""
    with private_connection(alias) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE " + ", ".join(f"tailrace_{name}" for name in TABLES))


def rows(alias: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Return what a query gives, on a connection of its own."""
    with private_connection(alias) as connection, connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()


def dsn(url: str) -> str:
    """Return a database URL as libpq writes it."""
    return url.replace("postgres://", "postgresql://", 1)


def connect(url: str) -> psycopg.Connection[Any]:
    """Open a plain connection, in autocommit."""
    return psycopg.connect(dsn(url), autocommit=True, connect_timeout=5)
