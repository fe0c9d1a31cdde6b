"""Connections of our own to the host's databases.

Tailrace never writes on the host's connection or inside the host's transaction. Django's ORM
takes its connection from ``django.db.connections[alias]``, separately in each thread; inside
the block, and in this thread only, the alias means a connection that nobody else has.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tailrace.pipeline.context import suppress_recording

_MAX_AGE_SECONDS = 60

_own = threading.local()


@contextmanager
def private_connection(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """Let ``alias`` mean our own connection within the block; nests."""
    hosts = connections[alias]
    if getattr(hosts, "is_tailrace_private", False):
        yield hosts
        return
    connection = _connection(alias)
    connection.close_if_unusable_or_obsolete()
    connections[alias] = connection
    try:
        with suppress_recording():
            yield connection
    finally:
        connections[alias] = hosts
        if connection.settings_dict["OPTIONS"].get("pool"):
            # Back to the pool, which the host's threads share and may be waiting for.
            connection.close()


def close_private_connections(alias: str | None = None) -> None:
    """Close this thread's own connections: all, or the one to ``alias``.

    They are made again when they are needed, from the settings as they are then.
    """
    by_alias = _by_alias()
    for name in [alias] if alias is not None else list(by_alias):
        connection = by_alias.pop(name, None)
        if connection is not None:
            connection.close()


def _connection(alias: str) -> BaseDatabaseWrapper:
    by_alias = _by_alias()
    if alias not in by_alias:
        connection = connections.create_connection(alias)
        connection.settings_dict = _settings(connection)
        connection.is_tailrace_private = True
        by_alias[alias] = connection
    return by_alias[alias]


def _by_alias() -> dict[str, BaseDatabaseWrapper]:
    # A forked child must not use, and not close, what it shares with its parent.
    if getattr(_own, "pid", None) != os.getpid():
        _own.pid = os.getpid()
        _own.connections = {}
    connections_by_alias: dict[str, BaseDatabaseWrapper] = _own.connections
    return connections_by_alias


def _settings(connection: BaseDatabaseWrapper) -> dict[str, object]:
    settings = copy.deepcopy(connection.settings_dict)
    if "pool" not in settings["OPTIONS"]:
        settings["CONN_MAX_AGE"] = settings["CONN_MAX_AGE"] or _MAX_AGE_SECONDS
        settings["CONN_HEALTH_CHECKS"] = True
    if connection.vendor == "sqlite":
        # SQLite has no row locks. A transaction that starts by reading and writes later
        # fails at once, without waiting, when another writer came in between.
        settings["OPTIONS"]["transaction_mode"] = "IMMEDIATE"
    return settings
