"""Queries: one event for each statement, on every database alias."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter_ns, time_ns
from typing import Any, ClassVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from tailrace.django_integration.guard import shield
from tailrace.pipeline.context import SUPPRESSED, current_trace
from tailrace.pipeline.event import Value
from tailrace.pipeline.masking import Masker
from tailrace.pipeline.recording import emit

from .base import Recorder, RecorderOptions
from .sql_params import plain_params, shown_params
from .sql_text import RAW_SQL_MAX_CHARS, describe
from .tracebacks import qualified_name

MEASUREMENT = "query"

Execute = Callable[[Any, Any, bool, dict[str, Any]], Any]

_shield = shield(MEASUREMENT)


class Options(RecorderOptions, frozen=True):
    """Options of the recorder ``queries``."""

    params: bool = False
    """Keep the parameters, masked by column name and by shape."""


class QueryRecorder(Recorder):
    """Makes an event ``query`` of each statement that Django sends to a database.

    Django makes a connection for each alias and thread when it is first used, so the wrapper
    is put on when a connection connects. Connections that have ``is_tailrace_private`` set are
    our own, and left alone.
    """

    name: ClassVar[str] = "queries"
    Options: ClassVar[type[RecorderOptions]] = Options

    def __init__(self, options: Mapping[str, Any], masker: Masker) -> None:
        super().__init__(options, masker)
        self._keeps_params = self.options.params
        self._finish = self.finish  # bound once, and not for each statement
        self._wrapped: weakref.WeakSet[BaseDatabaseWrapper] = weakref.WeakSet()
        self._lock = threading.Lock()

    def install(self) -> None:
        """Wrap what is connected, in this and other threads, and what will connect."""
        connection_created.connect(self._on_connected, dispatch_uid="tailrace.queries")
        for connection in _open_connections():
            self._wrap(connection)

    def uninstall(self) -> None:
        """Take the wrapper off every connection, in every thread."""
        connection_created.disconnect(dispatch_uid="tailrace.queries")
        with self._lock:
            for connection in list(self._wrapped):
                wrappers = connection.execute_wrappers
                wrappers[:] = [wrapper for wrapper in wrappers if wrapper != self.execute]
            self._wrapped.clear()

    def execute(
        self, execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Run a statement and record it; Django calls this around each."""
        trace_id = current_trace()
        if trace_id is SUPPRESSED:
            return execute(sql, params, many, context)
        time = time_ns()
        started_ns = perf_counter_ns()
        try:
            result = execute(sql, params, many, context)
        except BaseException as error:
            duration_ns = perf_counter_ns() - started_ns
            self._observe(time, duration_ns, sql, params, many, context, trace_id, error)
            raise
        duration_ns = perf_counter_ns() - started_ns
        self._observe(time, duration_ns, sql, params, many, context, trace_id, None)
        return result

    def finish(self, raw: tuple[Any, ...]) -> tuple[dict[str, str], dict[str, Value]]:
        """Make tags and fields; runs on the flusher's thread."""
        duration_ns, alias, vendor, sql, error, rows, params = raw
        statement = describe(sql, vendor)
        tags = _tags(alias, vendor, statement.operation, error is None)
        fields: dict[str, Value] = {"duration_ms": duration_ns / 1e6, "sql": statement.sql}
        if error is not None:
            fields["error"] = error
        if rows is not None:
            fields["rows"] = rows
        if params is not None:
            fields["params"] = shown_params(sql, params, self.masker)
        return tags, fields

    def _observe(
        self,
        time_ns: int,
        duration_ns: int,
        sql: Any,
        params: Any,
        many: bool,
        context: dict[str, Any],
        trace_id: str | None,
        error: BaseException | None,
    ) -> None:
        with _shield:
            connection = context["connection"]
            if type(sql) is not str:
                sql = _text_of(sql)
            if len(sql) > RAW_SQL_MAX_CHARS:
                sql = sql[:RAW_SQL_MAX_CHARS]
            raw = (
                duration_ns,
                connection.alias,
                connection.vendor,
                sql,
                None if error is None else qualified_name(type(error)),
                # An iterator must not be consumed, so it tells no number.
                len(params) if many and isinstance(params, list | tuple) else None,
                plain_params(params, many) if self._keeps_params and params else None,
            )
            emit(MEASUREMENT, time_ns, self._finish, raw, trace_id)

    def _on_connected(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        with _shield:
            self._wrap(connection)

    def _wrap(self, connection: BaseDatabaseWrapper) -> None:
        if getattr(connection, "is_tailrace_private", False):
            return
        with self._lock:
            # A connection that reconnects keeps its wrappers.
            if self.execute not in connection.execute_wrappers:
                connection.execute_wrappers.append(self.execute)
                self._wrapped.add(connection)


@functools.lru_cache(maxsize=256)
def _tags(alias: str, vendor: str, operation: str, is_ok: bool) -> dict[str, str]:
    """Return the tags of a query, the same dict for the same ones: it is checked but once."""
    return {
        "alias": alias,
        "vendor": vendor,
        "operation": operation,
        "status": "ok" if is_ok else "error",
    }


def _open_connections() -> Iterable[BaseDatabaseWrapper]:
    """Return the connections that exist already, those of other threads included.

    Usually there are none: recorders are installed before the first request. Django keeps
    the connections of other threads where only they can see them; the garbage collector
    knows them all.
    """
    if threading.active_count() == 1:
        return connections.all(initialized_only=True)
    # type(), since isinstance() would ask lazy objects for their __class__ and wake them.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), BaseDatabaseWrapper)]


def _text_of(sql: Any) -> str:
    """Return the text of SQL that is no ``str``: bytes, or psycopg's composed SQL."""
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    if isinstance(sql, str):
        return str(sql)
    as_string = getattr(sql, "as_string", None)
    return as_string(None) if as_string is not None else f"<{type(sql).__name__}>"
