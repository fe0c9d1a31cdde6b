"""How far a replica is behind its primary, measured without special rights on either."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from django.db import Error, connections

#: Positions of the primary that are remembered; at one probe a second this is ten minutes.
MAX_REMEMBERED_POSITIONS = 600

_PRIMARY_POSITION = """
    SELECT pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
        '0/0')::bigint
"""
_REPLICA_POSITION = """
    SELECT pg_is_in_recovery(),
           pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint,
           pg_last_wal_replay_lsn() = pg_last_wal_receive_lsn(),
           extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
"""


class LagMeter:
    """Measures the lag of the replicas of one primary.

    PostgreSQL tells the time of the last replayed commit, which grows while nobody writes, so it
    only bounds the lag from above. The second bound is our own: the primary's position is noted at
    every measurement, and a replica that has replayed the position of three seconds ago is at most
    three seconds behind. The smaller bound counts.

    Args:
        primary: alias of the primary.
        clock: monotonic seconds.
    """

    def __init__(self, primary: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._primary = primary
        self._clock = clock
        self._positions: deque[tuple[float, int]] = deque(maxlen=MAX_REMEMBERED_POSITIONS)
        self._lock = threading.Lock()

    def measure(self, replica: str) -> float | None:
        """Return the lag of `replica` in seconds, or ``None`` where its engine does not replicate.

        Raises:
            OperationalError: the replica does not answer. (A primary that does not answer is
                no fault of the replica: the lag is then what the replica knows itself.)
        """
        vendor = connections[replica].vendor
        if vendor == "postgresql":
            return self._measure_postgresql(replica)
        if vendor == "mysql":
            return _measure_mysql(replica)
        return None

    def _measure_postgresql(self, replica: str) -> float:
        position = self._note_primary_position()
        with connections[replica].cursor() as cursor:
            cursor.execute(_REPLICA_POSITION)
            in_recovery, replayed, is_caught_up, since_commit_seconds = cursor.fetchone()
        if not in_recovery:
            return 0.0
        if position is None:
            return 0.0 if is_caught_up else float(since_commit_seconds or 0.0)
        if replayed >= position:
            return 0.0
        return min(self._age_of(replayed), since_commit_seconds or float("inf"))

    def _note_primary_position(self) -> int | None:
        try:
            with connections[self._primary].cursor() as cursor:
                cursor.execute(_PRIMARY_POSITION)
                position = int(cursor.fetchone()[0])
        except Error:
            connections[self._primary].close()
            return None
        with self._lock:
            if not self._positions or self._positions[-1][1] <= position:
                self._positions.append((self._clock(), position))
        return position

    def _age_of(self, replayed: int) -> float:
        with self._lock:
            known = [noted_at for noted_at, position in self._positions if position <= replayed]
        return self._clock() - known[-1] if known else float("inf")


def _measure_mysql(replica: str) -> float | None:
    with connections[replica].cursor() as cursor:
        # Both names work on MariaDB 10.5+ and MySQL 8.0.22+; older servers are out of support.
        cursor.execute("SHOW REPLICA STATUS")
        row = cursor.fetchone()
        if row is None:
            return None
        columns = [column[0] for column in cursor.description]
    status: dict[str, Any] = dict(zip(columns, row, strict=True))
    behind = status.get("Seconds_Behind_Source", status.get("Seconds_Behind_Master"))
    # NULL means that the replica is not replicating at all: as stale as can be.
    return float("inf") if behind is None else float(behind)
