"""A read whose replica goes away in mid-flight is asked again on the primary.

The router chooses an alias before the query, so it cannot help a query that is already under way.
Django lets us stand around every execution of a connection (``execute_wrappers``); there the read
can be repeated, and the cursor that the caller holds can be given the primary's result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from django.db import InterfaceError, OperationalError, connections

from tailrace.django_integration.routers.pins import is_read

logger = logging.getLogger("tailrace.databases")

#: The host's own ``statement_timeout``; asking the primary would only double the wait.
_QUERY_CANCELED = "57014"


class Pool(Protocol):
    """What the wrapper needs of a replica pool."""

    primary: str

    def mark_down(self, alias: str, reason: Exception) -> None:
        """Take the replica out for a while."""


class Failover:
    """An execute wrapper for the connections of one replica.

    Outside a transaction, a ``SELECT`` that fails because of its server is repeated on the
    primary. A server-side cursor (``iterator()``) is covered up to its first row: rows that the
    caller has had cannot be asked for again.

    Args:
        pool: the pool that the replica belongs to.
        alias: the replica.
    """

    def __init__(self, pool: Pool, alias: str) -> None:
        self._pool = pool
        self._alias = alias

    def __call__(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        """Run the statement, and where its server fails it, run it on the primary."""
        try:
            return execute(sql, params, many, context)
        except (OperationalError, InterfaceError) as error:
            connection = context["connection"]
            if many or connection.in_atomic_block or not _is_servers_fault(error):
                raise
            if not is_read(sql):
                raise
            if not connection.is_usable():
                connection.close()
                self._pool.mark_down(self._alias, error)
            return self._on_primary(sql, params, context["cursor"])

    def _on_primary(self, sql: Any, params: Any, cursor: Any) -> Any:
        primary = connections[self._pool.primary]
        is_server_side = getattr(cursor.cursor, "name", None) is not None
        fresh = primary.chunked_cursor() if is_server_side else primary.cursor()
        result = fresh.execute(sql, params)
        # The caller keeps its cursor and fetches from it; what it fetches is the primary's.
        cursor.cursor = fresh.cursor
        cursor.db = primary
        return result


def _is_servers_fault(error: Exception) -> bool:
    return getattr(error.__cause__, "sqlstate", None) != _QUERY_CANCELED
