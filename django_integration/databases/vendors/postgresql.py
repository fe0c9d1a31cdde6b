"""PostgreSQL 13 and newer."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.db import transaction

from tailrace.django_integration.databases.vendors.base import Answer, Vendor
from tailrace.django_integration.databases.vendors.polling import wait_for

#: First key of our advisory locks, so that they meet no one else's: "tail" in ASCII.
LOCK_CLASS = 0x7461696C

_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
_HAS_STATEMENTS = "SELECT 1 FROM pg_extension WHERE extname = 'pg_stat_statements'"
_SLOW = """
    SELECT query, calls, total_exec_time AS total_ms, mean_exec_time AS mean_ms,
           max_exec_time AS max_ms, rows
      FROM pg_stat_statements
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY total_exec_time DESC
     LIMIT %s
"""
_BLOAT = """
    SELECT schemaname || '.' || relname AS "table",
           n_dead_tup AS dead_rows,
           n_live_tup AS live_rows,
           round(n_dead_tup::numeric / greatest(n_live_tup + n_dead_tup, 1), 4)::float8
               AS dead_share,
           (pg_total_relation_size(relid) * n_dead_tup
               / greatest(n_live_tup + n_dead_tup, 1))::bigint AS dead_bytes,
           greatest(last_vacuum, last_autovacuum) AS last_vacuum
      FROM pg_stat_user_tables
     ORDER BY dead_bytes DESC, relname
     LIMIT %s
"""


class PostgreSQL(Vendor):
    """Answers from the statistics views; sizes and locks need no special rights."""

    label: ClassVar[str] = "PostgreSQL"

    def connection_count(self) -> int | None:
        """Count the sessions of this database."""
        return int(self.value(_CONNECTIONS))

    def size_bytes(self) -> int | None:
        """Return the size of the database's files."""
        return int(self.value("SELECT pg_database_size(current_database())"))

    def slow_queries(self, limit: int) -> Answer:
        """Read ``pg_stat_statements``."""
        if self.value(_HAS_STATEMENTS) is None:
            return Answer(
                reason="The extension pg_stat_statements is not installed in this database: put "
                "it into shared_preload_libraries, restart, and run CREATE EXTENSION "
                "pg_stat_statements."
            )
        return Answer(self.rows(_SLOW, (limit,)))

    def bloat(self, limit: int) -> Answer:
        """Estimate from the counts of dead and live rows."""
        return Answer(self.rows(_BLOAT, (limit,)))

    def vacuum(self) -> str:
        """Run ``VACUUM (ANALYZE)``, which no transaction may surround."""
        if self.connection.in_atomic_block:
            raise transaction.TransactionManagementError(
                "VACUUM cannot run inside atomic(); call it outside."
            )
        if self.value("SELECT pg_is_in_recovery()"):
            return "nothing to do: a replica is vacuumed by its primary"
        with self.connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE)")
        return "VACUUM (ANALYZE)"

    @contextmanager
    def lock(self, name: str, wait_seconds: float, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold a session-level advisory lock; the server drops it if we are killed.

        A waiting ``pg_advisory_lock()`` would keep a snapshot open, and the holder's ``CREATE
        INDEX CONCURRENTLY`` would wait for that for ever; hence the asking again.
        """
        key = zlib.crc32(name.encode()) - 2**31
        session = _own_session(self.connection)
        try:
            with session.cursor() as cursor:

                def take() -> bool:
                    cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_CLASS, key))
                    return bool(cursor.fetchone()[0])

                wait_for(take, name, wait_seconds, on_wait)
            yield
        finally:
            session.close()


def _own_session(connection: Any) -> Any:
    """Return a connection beside the alias's own, and outside its pool.

    A pooled connection would go back to the pool with the lock still held.
    """
    session = connection.copy()
    settings = dict(session.settings_dict)
    settings["OPTIONS"] = {k: v for k, v in settings["OPTIONS"].items() if k != "pool"}
    session.settings_dict = settings
    session.force_debug_cursor = False
    return session
