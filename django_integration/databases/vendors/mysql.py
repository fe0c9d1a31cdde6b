"""MySQL 8 and MariaDB 10.6 and newer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from tailrace.django_integration.databases.vendors.base import Answer, Vendor
from tailrace.django_integration.databases.vendors.polling import wait_for

#: Longest lock name that MySQL takes.
MAX_LOCK_NAME_CHARS = 64

_CONNECTIONS = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()"
_SIZE = """
    SELECT COALESCE(SUM(data_length + index_length), 0)
      FROM information_schema.tables WHERE table_schema = DATABASE()
"""
_SLOW = """
    SELECT digest_text AS query, count_star AS calls,
           sum_timer_wait / 1000000000 AS total_ms, avg_timer_wait / 1000000000 AS mean_ms,
           max_timer_wait / 1000000000 AS max_ms, sum_rows_sent AS `rows`
      FROM performance_schema.events_statements_summary_by_digest
     WHERE schema_name = DATABASE() AND digest_text IS NOT NULL
     ORDER BY sum_timer_wait DESC
     LIMIT %s
"""
_BLOAT = """
    SELECT table_name AS `table`, data_free AS dead_bytes,
           data_free / GREATEST(data_length + index_length + data_free, 1) AS dead_share
      FROM information_schema.tables
     WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'
     ORDER BY data_free DESC, table_name
     LIMIT %s
"""


class MySQL(Vendor):
    """Answers from ``information_schema`` and, where it is on, ``performance_schema``."""

    label: ClassVar[str] = "MySQL"

    def connection_count(self) -> int | None:
        """Count the threads that use this database and that our user may see."""
        return int(self.value(_CONNECTIONS))

    def size_bytes(self) -> int | None:
        """Return the size of data and indexes, as the engine estimates them."""
        return int(self.value(_SIZE))

    def slow_queries(self, limit: int) -> Answer:
        """Read the statement digests of ``performance_schema``."""
        if not int(self.value("SELECT @@performance_schema")):
            return Answer(
                reason="performance_schema is off on this server: set performance_schema=ON and "
                "restart it."
            )
        return Answer(self.rows(_SLOW, (limit,)))

    def bloat(self, limit: int) -> Answer:
        """Read the free space inside the tables' files."""
        return Answer(self.rows(_BLOAT, (limit,)))

    def vacuum(self) -> str:
        """Run ``ANALYZE TABLE``; ``OPTIMIZE TABLE`` would copy and lock every table."""
        names = self.connection.introspection.table_names()
        quote = self.connection.ops.quote_name
        with self.connection.cursor() as cursor:
            for name in names:
                cursor.execute("ANALYZE TABLE " + quote(name))
                cursor.fetchall()
        return f"ANALYZE TABLE on {len(names)} tables"

    @contextmanager
    def lock(self, name: str, wait_seconds: float, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold ``GET_LOCK`` in a session of our own; the server drops it if we are killed."""
        session = self.connection.copy()
        try:
            with session.cursor() as cursor:

                def take() -> bool:
                    cursor.execute(
                        "SELECT GET_LOCK(LEFT(CONCAT(DATABASE(), '.', %s), %s), 0)",
                        (name, MAX_LOCK_NAME_CHARS),
                    )
                    return bool(cursor.fetchone()[0])

                wait_for(take, name, wait_seconds, on_wait)
            yield
        finally:
            session.close()
