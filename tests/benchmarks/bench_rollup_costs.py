"""What rollups cost: a refresh after late events, by the size of the table; and the drain.

::

    python -m benchmarks.bench_rollup_costs --rows 1000000 10000000 --engine sqlite postgres

Tables differ in how many days they reach back, not in how much there is in a bucket. The refresh
must read the rows of the ten buckets that 1,000 late events fall into, and no others; it is
measured several times, each time with other late events.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.bench_rollups import FIRST, POSTGRES_FILL, SQLITE_FILL, site

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.event import Event, ns_from_datetime

ROWS_A_DAY = 1_000_000 / 30
LATE_BUCKETS = 10
LATE_EVENTS = 1_000
BAR_GROWTH = 1.5
BAR_INGEST = 0.9
BATCH_EVENTS = 2_000
ROUNDS = 30


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--engine", nargs="*", default=["sqlite", "postgres"])
    given = parser.parse_args()
    for engine in given.engine:
        seconds = []
        for rows in given.rows:
            with site(engine) as alias:
                seconds.append(late_seconds(engine, alias, rows))
                if rows == given.rows[-1]:
                    print(ingest(engine, alias), flush=True)
        growth = seconds[-1] / seconds[0]
        verdict = "within" if growth <= BAR_GROWTH else "NOT WITHIN"
        print(f"{engine}: it grows to {growth:.2f} times: {verdict} the bar", flush=True)


def late_seconds(engine: str, alias: str, rows: int) -> float:
    """Fill an empty database, and return what a refresh after late events takes.

    Args:
        engine: ``sqlite`` or ``postgres``.
        alias: The database alias.
        rows: How many events there are before.
    """
    from tailrace.backends.rollups.declared import unregister_rollup

    days = rows / ROWS_A_DAY
    _fill(engine, alias, rows, round(days * 86_400))
    backend = _backend(engine, alias)
    _register("late")
    backend.refresh_rollup("late")
    taken, rows_read = [], set()
    hours = int(days * 24) - 1
    for again in range(5):
        chosen = [(again + place * hours // LATE_BUCKETS) % hours for place in range(LATE_BUCKETS)]
        starts = [FIRST + timedelta(hours=hour) for hour in chosen]
        _drain(backend, [starts[n % LATE_BUCKETS] for n in range(LATE_EVENTS)])
        started = _clock(engine)
        done = backend.refresh_rollup("late")
        taken.append(_clock(engine) - started)
        rows_read.add(done.rows_read)
        buckets = sum(high - low for _, (low, high) in done.ranges) // 3_600_000_000
        assert buckets == LATE_BUCKETS, f"{buckets} buckets were computed"
        late = LATE_EVENTS * (again + 1)  # where a small table has the same bucket twice
        assert done.rows_read < late + LATE_BUCKETS * (ROWS_A_DAY / 24 + 2), "too many rows"
    unregister_rollup("late")
    median = statistics.median(taken)
    print(
        f"{engine}: {rows:,} rows; refresh after {LATE_EVENTS:,} late events in {LATE_BUCKETS} "
        f"buckets: {median * 1000:.0f} ms, {min(rows_read):,} to {max(rows_read):,} rows read",
        flush=True,
    )
    return median


def ingest(engine: str, alias: str) -> str:
    """Return what four rollups leave of the rate of storing events; none of them is late.

    Args:
        engine: ``sqlite`` or ``postgres``.
        alias: The database alias, with Tailrace's tables.
    """
    from tailrace.backends.rollups.declared import unregister_rollup

    backend = _backend(engine, alias)
    names = [f"ingest{number}" for number in range(4)]
    ratios = []
    for number in range(ROUNDS):
        taken = {}
        # Each goes first every other time: whoever does pays for the other's tidying up.
        for has_rollups in (True, False) if number % 2 else (False, True):
            for name in names if has_rollups else ():
                _register(name)
            _synchronise(backend)
            taken[has_rollups] = _timed_drain(engine, backend)
            for name in names if has_rollups else ():
                unregister_rollup(name)
        ratios.append(taken[False] / taken[True])
    ratio = statistics.median(ratios)
    verdict = "within" if ratio >= BAR_INGEST else "NOT WITHIN"
    return (
        f"{engine}: ingest with 4 rollups at {ratio:.2f} of the rate with none: {verdict} the bar"
    )


def _timed_drain(engine: str, backend: Any) -> float:
    moments = [datetime.now(UTC)] * BATCH_EVENTS
    events = list(_events(moments))
    gc.collect()
    started = _clock(engine)
    _store(backend, events)
    return _clock(engine) - started


def _clock(engine: str) -> float:
    """Return seconds: on SQLite of CPU, which other work on the machine does not lengthen."""
    return time.process_time() if engine == "sqlite" else time.perf_counter()


def _synchronise(backend: Any) -> None:
    from tailrace.backends.private_connection import private_connection
    from tailrace.backends.rollups.declared import synchronise

    with private_connection(backend.get_db_alias()):
        synchronise(backend)


def _register(name: str) -> None:
    from tailrace.backends.rollups.declared import register_rollup

    register_rollup(
        name,
        "request",
        fields=("duration_ms",),
        functions=("count", "sum", "avg", "p95"),
        widths=("1 hour",),
        group_by=("route",),
    )


def _fill(engine: str, alias: str, rows: int, seconds: int) -> None:
    from django.db import connections

    fill = SQLITE_FILL if engine == "sqlite" else POSTGRES_FILL
    fill = fill.replace("%(rows)s", str(rows)).replace("2592000", str(seconds)).replace("%%", "%")
    with connections[alias].cursor() as cursor:
        cursor.execute(fill)
        cursor.execute("ANALYZE" if engine == "sqlite" else "VACUUM ANALYZE tailrace_event")


def _backend(engine: str, alias: str) -> Any:
    from tailrace.backends.django_db import DjangoDBBackend
    from tailrace.backends.postgres import PostgresBackend

    backend_class = DjangoDBBackend if engine == "sqlite" else PostgresBackend
    backend = backend_class("bench", {"ALIAS": alias})
    backend.setup()
    if backend.read_checkpoint(0) is None:
        backend.create_checkpoint(Checkpoint(0))
    return backend


def _events(moments: list[datetime]) -> Iterator[Event]:
    for number, at in enumerate(moments):
        tags, fields = {"route": f"r{number % 20}"}, {"duration_ms": 10.0 + number % 90}
        yield Event("request", ns_from_datetime(at), tags, fields, id=uuid.uuid4().bytes)


def _drain(backend: Any, moments: list[datetime]) -> None:
    _store(backend, list(_events(moments)))


def _store(backend: Any, events: list[Event]) -> None:
    with backend.transaction(0) as tx:
        tx.write(events)
        position = f"{time.monotonic_ns()}-0"
        tx.advance(Checkpoint(0, position, "e", tx.checkpoint.created_ns), [])


if __name__ == "__main__":
    main()
