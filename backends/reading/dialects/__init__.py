"""What differs between databases when events are aggregated: one module each."""

from __future__ import annotations

from typing import Any

from tailrace.pipeline.errors import NotSupportedByBackend

from .base import Dialect, Sql
from .mysql import MariaDBDialect, MySQLDialect
from .postgresql import PostgresDialect
from .sqlite import SQLiteDialect

__all__ = ["Dialect", "Sql", "dialect_of"]


def dialect_of(connection: Any) -> Dialect:
    """Return the dialect of a Django connection.

    Raises:
        NotSupportedByBackend: there is none for its database.
    """
    if connection.vendor == "sqlite":
        return SQLiteDialect(connection)
    if connection.vendor == "postgresql":
        return PostgresDialect(connection)
    if connection.vendor == "mysql":
        return (MariaDBDialect if connection.mysql_is_mariadb else MySQLDialect)(connection)
    raise NotSupportedByBackend(
        f"tags and aggregates are not written for {connection.display_name} (database "
        f"{connection.alias!r}); SQLite, PostgreSQL, MariaDB and MySQL have them"
    )
