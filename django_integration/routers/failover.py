"""A read whose replica goes away in mid-flight is asked again on the primary.

The router chooses an alias before the query, so it cannot help a query that is already under way.
Django lets us stand around every execution of a connection (``execute_wrappers``); there the read
can be repeated, and the cursor that the caller holds can be given the primary's result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from django.db import InterfaceError, OperationalError, connections

from tailrace.django_integration.routers.pins import is_read

#: The host's own ``statement_timeout``; asking the primary would only double the wait.
_QUERY_CANCELED = "57014"
#: Rows of a server-side cursor that are read at once; Django's own default chunk.
STREAM_HEAD_ROWS = 2000
#: Mark on a cursor whose inner cursor is the primary's.
_LENT = "_tailrace_is_lent"


class Pool(Protocol):
    """What the wrapper needs of a replica pool."""

    primary: str

    def replace_connection(self, alias: str, reason: Exception) -> None:
        """Close a broken connection, and take the replica out if there is no new one."""


class Failover:
    """An execute wrapper for the connections of one replica.

    Outside a transaction, a ``SELECT`` that fails because of its server is repeated on the
    primary. Of a server-side cursor (``iterator()``) that covers the first ``STREAM_HEAD_ROWS``
    rows; rows beyond them that the caller has had cannot be asked for again.

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
        connection, cursor = context["connection"], context["cursor"]
        if many or connection.in_atomic_block or not is_read(sql):
            if vars(cursor).pop(_LENT, False):
                # A cursor that was lent the primary's must not carry a write there.
                cursor.cursor = connection.cursor().cursor
            return execute(sql, params, many, context)
        try:
            result = execute(sql, params, many, context)
            if _is_server_side(cursor.cursor):
                with connection.wrap_database_errors:
                    cursor.cursor = Stream(cursor.cursor)
        except (OperationalError, InterfaceError) as error:
            if not _is_servers_fault(error):
                raise
            if not connection.is_usable():
                self._pool.replace_connection(self._alias, error)
            return self._on_primary(sql, params, cursor)
        return result

    def _on_primary(self, sql: Any, params: Any, cursor: Any) -> Any:
        primary = connections[self._pool.primary]
        fresh = primary.chunked_cursor() if _is_server_side(cursor.cursor) else primary.cursor()
        result = fresh.execute(sql, params)
        # The caller keeps its cursor and fetches from it; what it fetches is the primary's.
        cursor.cursor = fresh.cursor
        setattr(cursor, _LENT, True)
        return result


class Stream:
    """A server-side cursor whose first rows are already here.

    Most ``iterator()`` results end within them: then nothing is left to ask of the server, and
    its going away is no longer the caller's concern.

    Args:
        cursor: the driver's cursor, executed.
    """

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._head = deque(cursor.fetchmany(STREAM_HEAD_ROWS))
        self._description = cursor.description
        self._is_complete = len(self._head) < STREAM_HEAD_ROWS
        if self._is_complete:
            cursor.close()

    @property
    def description(self) -> Any:
        """The columns, as the driver describes them."""
        return self._description

    def fetchmany(self, size: int = 1) -> list[Any]:
        """Return up to `size` rows."""
        rows = [self._head.popleft() for _ in range(min(size, len(self._head)))]
        if len(rows) < size and not self._is_complete:
            rows += self._cursor.fetchmany(size - len(rows))
        return rows

    def fetchone(self) -> Any:
        """Return a row, or ``None`` at the end."""
        return next(iter(self.fetchmany(1)), None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        rows = list(self._head)
        self._head.clear()
        return rows if self._is_complete else rows + self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        """Return the rows that are left, one by one."""
        while rows := self.fetchmany(STREAM_HEAD_ROWS):
            yield from rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def _is_server_side(cursor: Any) -> bool:
    return getattr(cursor, "name", None) is not None


def _is_servers_fault(error: Exception) -> bool:
    return getattr(error.__cause__, "sqlstate", None) != _QUERY_CANCELED
