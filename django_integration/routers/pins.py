"""Read-your-writes: which primaries the current unit of work has written to.

The unit of work is the request. Django sends ``request_started`` and ``request_finished`` around
it; between them, and from the first write on, reads of that primary stay on it. Where nobody sends
these signals (a command, a shell), the pin holds until ``forget_writes()`` or the end of a
``read_your_writes()`` block: reading too much from the primary is slow, reading stale is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.core.signals import request_finished, request_started
from django.db import connections
from django.db.backends.signals import connection_created

from tailrace.pipeline import schedule

#: Primaries that a replica router watches. Filled as routers are made, never emptied: a few names.
_watched_primaries: set[str] = set()

# A mutable set, so that threads which asgiref starts with a copy of the context write into the
# request's own set and not into a copy.
_written: ContextVar[set[str] | None] = ContextVar("tailrace_written_primaries", default=None)

_LEADING_NOISE = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|\()+", re.DOTALL)
_FIRST_WORD = re.compile(r"[A-Za-z]+")
_WRITING_WORD = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|INTO)\b", re.IGNORECASE)
_READS = frozenset({"SELECT", "VALUES", "SHOW", "EXPLAIN", "DESCRIBE", "PRAGMA", "TABLE", "FETCH"})
_CONTROL = frozenset(
    {"BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "RESET", "CLOSE"}
)


def note_write(primary: str) -> None:
    """Remember that the current unit of work writes to `primary`."""
    written = _written.get()
    if written is None:
        written = set()
        _written.set(written)
    written.add(primary)


def has_written(primary: str) -> bool:
    """Say whether the current unit of work has written to `primary`."""
    written = _written.get()
    return written is not None and primary in written


def forget_writes(**_signal: Any) -> None:
    """Start a new unit of work: reads may go to replicas again."""
    _written.set(set())


@contextmanager
def read_your_writes() -> Iterator[None]:
    """Bound a unit of work where there is no request: a task, or one turn of a long command."""
    token = _written.set(set())
    try:
        yield
    finally:
        _written.reset(token)


def watch_primary(primary: str) -> None:
    """Notice every write that goes to `primary`, also raw SQL and ``using()``."""
    if not _watched_primaries:
        _connect()
    _watched_primaries.add(primary)
    for connection in connections.all(initialized_only=True):
        _attach(connection)


def first_word(sql: Any) -> str:
    """Return the statement's first keyword in upper case, past comments and brackets."""
    text = str(sql)
    noise = _LEADING_NOISE.match(text)
    word = _FIRST_WORD.match(text, noise.end() if noise else 0)
    return word.group().upper() if word else ""


def is_read(sql: Any) -> bool:
    """Say whether a statement only reads, as far as its text shows.

    A ``SELECT`` that calls a writing function cannot be told from one that does not.
    """
    word = first_word(sql)
    if word in {"SELECT", "WITH", "EXPLAIN"}:
        # SELECT ... INTO, data-modifying WITH, EXPLAIN ANALYZE DELETE, SELECT ... FOR UPDATE.
        return _WRITING_WORD.search(_without_literals(str(sql))) is None
    return word in _READS


def _without_literals(sql: str) -> str:
    return re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", "", sql)


def _note_statement(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, ctx: Any
) -> Any:
    if first_word(sql) not in _CONTROL and not is_read(sql):
        note_write(ctx["connection"].alias)
    return execute(sql, params, many, ctx)


def _attach(connection: Any, **_signal: Any) -> None:
    if (
        connection.alias in _watched_primaries
        and _note_statement not in connection.execute_wrappers
    ):
        connection.execute_wrappers.append(_note_statement)


def _connect() -> None:
    """Follow connections, requests and tasks: only where a replica router needs it."""
    connection_created.connect(_attach, dispatch_uid="tailrace.routers.pins.attach")
    request_started.connect(forget_writes, dispatch_uid="tailrace.routers.pins.started")
    request_finished.connect(forget_writes, dispatch_uid="tailrace.routers.pins.finished")
    schedule.before_each_task(forget_writes)
