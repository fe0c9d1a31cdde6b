"""p95 over 30 days by hour: from a rollup, and from the rows.

::

    python -m benchmarks.bench_rollups --rows 10000000 --engine sqlite postgres

The rows are made in the database, the rollup by ``refresh_rollup``. Each question is asked several
times, from the rollup on a warm cache as on a dashboard; the answers are compared, row by row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

FIRST = datetime(2024, 5, 1, tzinfo=UTC)
DAYS = 30
ROUTES = 20
BAR_RATIO = 100
ERROR_MAX = 0.01
# Durations: 1 to about 5,000 ms with a long tail; 7919 and 104729 mix, and repeat late.
SQLITE_FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %(rows)s)
INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id)
SELECT printf('%%032x', i), 'request',
       strftime('%%Y-%%m-%%d %%H:%%M:%%S', 1714521600 + i * 2592000 / %(rows)s, 'unixepoch'),
       '{"route": "r' || (i * 7919 %% 20) || '"}',
       '{"duration_ms": ' || round(
           10.5 + 90.0 * (i * 104729 %% 1000) / (1001 - i * 104729 %% 1000), 3) || '}', ''
FROM n
"""
POSTGRES_FILL = """
INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id)
SELECT lpad(to_hex(i), 32, '0')::uuid, 'request',
       to_timestamp(1714521600 + (i * 2592000::bigint) / %(rows)s),
       jsonb_build_object('route', 'r' || (i * 7919 %% 20)),
       jsonb_build_object('duration_ms', round(
           10.5 + 90.0 * (i * 104729 %% 1000) / (1001 - i * 104729 %% 1000), 3)), ''
FROM generate_series(0::bigint, %(rows)s - 1) AS i
"""


class Outcome(NamedTuple):
    """What was measured."""

    engine: str
    rows: int
    refresh_seconds: float
    raw_seconds: float
    rollup_seconds: float
    error: float

    def __str__(self) -> str:
        ratio = self.raw_seconds / self.rollup_seconds
        is_right = ratio >= BAR_RATIO and self.error <= ERROR_MAX
        return (
            f"{self.engine}: {self.rows:,} rows; p95 by hour of {DAYS} days: from rows "
            f"{self.raw_seconds:.2f} s, from the rollup {self.rollup_seconds * 1000:.1f} ms, "
            f"{ratio:,.0f} times faster; largest error {self.error:.3%}; all of it refreshed in "
            f"{self.refresh_seconds:.0f} s; {'within' if is_right else 'NOT WITHIN'} the bar"
        )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--engine", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--asked", type=int, default=9, help="how often the rollup is asked")
    given = parser.parse_args()
    for engine in given.engine:
        with site(engine) as alias:
            for outcome in measure(engine, alias, given.rows, given.asked):
                print(outcome, flush=True)


def measure(engine: str, alias: str, rows: int, asked: int) -> Iterator[Outcome]:
    """Fill an empty database, and compare: with a rollup by route, and with one of everything.

    Args:
        engine: What to call it; ``sqlite`` or ``postgres``.
        alias: The database alias.
        rows: How many events.
        asked: How often to ask the rollup.
    """
    from django.db import connections

    from tailrace.backends.django_db import DjangoDBBackend
    from tailrace.backends.rollups.declared import register_rollup, unregister_rollup

    with connections[alias].cursor() as cursor:
        fill = SQLITE_FILL if engine == "sqlite" else POSTGRES_FILL
        cursor.execute(fill.replace("%(rows)s", str(rows)).replace("%%", "%"))
        cursor.execute("ANALYZE" if engine == "sqlite" else "VACUUM ANALYZE tailrace_event")
    backend = DjangoDBBackend("bench", {"ALIAS": alias})
    options: dict[str, Any] = {
        "interval": "hour",
        "start": FIRST,
        "end": FIRST + timedelta(days=DAYS),
    }

    def ask(**more: Any) -> Any:
        return backend.aggregate("request", "duration_ms", "p95", **options, **more)

    raw_seconds, right = _timed(lambda: ask(use_rollups=False), 1)
    for name, group_by in (("by route", ("route",)), ("of all", ())):
        register_rollup(
            "bench",
            "request",
            fields=("duration_ms",),
            functions=("p95",),
            widths=("1 hour",),
            group_by=group_by,
        )
        refresh_seconds, _ = _timed(lambda: backend.refresh_rollup("bench"), 1)
        rollup_seconds, found = _timed(ask, asked)
        unregister_rollup("bench")
        assert [row["bucket"] for row in found] == [row["bucket"] for row in right]
        error = max(
            abs(ours["result"] - theirs["result"]) / theirs["result"]
            for ours, theirs in zip(found, right, strict=True)
        )
        called = f"{engine}, rollup {name}"
        yield Outcome(called, rows, refresh_seconds, raw_seconds, rollup_seconds, error)


def _timed(work: Callable[[], Any], times: int) -> tuple[float, Any]:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        found = work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken), found


@contextmanager
def site(engine: str) -> Iterator[str]:
    """Set Django up, with nothing recorded; yield an alias with Tailrace's tables."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    import django

    django.setup()
    from tailrace.pipeline.recording import configure

    configure(None)  # there is no Redis
    from postgres_alias import postgres_alias
    from postgres_server import PostgresServer

    if engine == "sqlite":
        with tempfile.TemporaryDirectory(prefix="tailrace-rollups-") as folder:
            pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
            url = f"sqlite:///{Path(folder) / 'bench.sqlite3'}"
            with postgres_alias(url, init_command=pragmas, timeout=60) as alias:
                yield alias
        return
    server = PostgresServer()
    try:
        server.start()
        with postgres_alias(server.create_database("bench")) as alias:
            yield alias
    finally:
        server.remove()


if __name__ == "__main__":
    main()
