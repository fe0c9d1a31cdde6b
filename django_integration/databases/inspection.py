"""Sizes, slow queries, lag, bloat, and how we are connected, without a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, close_old_connections, connections, reset_queries

from tailrace.django_integration.databases.replication import LagMeter
from tailrace.django_integration.databases.secrets import scrub, without_secrets
from tailrace.django_integration.databases.selection import select_aliases
from tailrace.django_integration.databases.vendors import Answer, vendor_of
from tailrace.django_integration.routers.replica import pools_by_replica

__all__ = [
    "close_old_connections",
    "get_connection_info",
    "get_database_sizes",
    "get_replication_lag",
    "get_slow_queries",
    "get_table_bloat",
    "reset_queries",
]

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_STATEMENT_WITH_SECRET = re.compile(r"\b(?:password|identified\s+by)\b", re.IGNORECASE)
HIDDEN_STATEMENT = "(hidden: the statement sets a password)"


def get_database_sizes(databases: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """Return ``{alias: {"size_bytes", "size", "error"}}``.

    Args:
        databases: aliases; ``None`` is all of them. One that is down has an ``error`` instead.
    """
    sizes: dict[str, dict[str, Any]] = {}
    for alias in select_aliases(databases):
        try:
            size_bytes = vendor_of(connections[alias]).size_bytes()
        except Error as error:
            sizes[alias] = {"size_bytes": None, "size": None, "error": scrub(error)}
            continue
        sizes[alias] = {"size_bytes": size_bytes, "size": pretty_bytes(size_bytes), "error": None}
    return sizes


def get_slow_queries(database: str = DEFAULT_DB_ALIAS, limit: int = 10) -> Answer:
    """Return the statements with the most time in total, worst first.

    Args:
        database: alias.
        limit: most rows to return.

    Returns:
        Rows with ``query``, ``calls``, ``total_ms``, ``mean_ms``, ``max_ms`` and ``rows``; where
        the engine cannot tell, an empty list whose ``reason`` says why.
    """
    select_aliases([database])
    answer = vendor_of(connections[database]).slow_queries(limit)
    for row in answer:
        # Statistics keep utility statements as they were written: CREATE ROLE ... PASSWORD '...'.
        has_secret = _STATEMENT_WITH_SECRET.search(str(row["query"])) is not None
        row["query"] = HIDDEN_STATEMENT if has_secret else scrub(row["query"])
    return answer


def get_table_bloat(database: str = DEFAULT_DB_ALIAS, limit: int = 10) -> Answer:
    """Return the tables with the most dead space: ``table``, ``dead_bytes``, ``dead_share``, ..."""
    select_aliases([database])
    return vendor_of(connections[database]).bloat(limit)


def get_replication_lag(database: str) -> float | None:
    """Return the seconds that a replica is behind, or ``None`` where nothing is replicated.

    Args:
        database: alias of the replica.
    """
    select_aliases([database])
    pool = pools_by_replica().get(database)
    if pool is not None:
        return pool.meter.measure(database)
    return LagMeter(DEFAULT_DB_ALIAS).measure(database)


def get_connection_info(databases: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """Return how each alias is connected: engine, server, name, user, options; no secret.

    Args:
        databases: aliases; ``None`` is all of them. Nothing is opened for it: ``server_version``
            is ``None`` where no connection is open.
    """
    return {alias: _connection_info(alias) for alias in select_aliases(databases)}


def _connection_info(alias: str) -> dict[str, Any]:
    connection = connections[alias]
    config = connection.settings_dict
    is_open = connection.connection is not None
    return {
        "vendor": connection.vendor,
        "engine": config["ENGINE"],
        "name": scrub(config["NAME"]),
        "host": scrub(config.get("HOST", "")),
        "port": config.get("PORT", ""),
        "user": config.get("USER", ""),
        "options": without_secrets(config.get("OPTIONS", {})),
        "has_pool": bool(config.get("OPTIONS", {}).get("pool")),
        "conn_max_age_seconds": config.get("CONN_MAX_AGE"),
        "is_open": is_open,
        "server_version": vendor_of(connection).server_version() if is_open else None,
    }


def pretty_bytes(size_bytes: int | None) -> str | None:
    """Return a size for people: ``12.3 MB``."""
    if size_bytes is None:
        return None
    size, unit = float(size_bytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
