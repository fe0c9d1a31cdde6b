"""An hour's average over many readings: from the readings, and from a continuous aggregate.

``python -m benchmarks.bench_timescale --rows 10000000`` (in ``tests/``). Without
``TAILRACE_TEST_TIMESCALE_DSN`` the server is TimescaleDB in WebAssembly, one thread and slow;
the ratio is what counts, and both sides of it run there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from timescale_server import TimescaleServer

DSN_VARIABLE = "TAILRACE_TEST_TIMESCALE_DSN"
DEVICES = 10
STEP_SECONDS = 10
START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS_A_STATEMENT = 500_000
BAR = 100
ROUNDS = 5


def main() -> None:
    """Fill a hypertable, ask both ways, compare answers and times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with _database() as (url, what):
        print(f"  {what}; {rows:,} readings of {DEVICES} devices, one every {STEP_SECONDS} s each")
        from benchmarks.timescale_site import weather_site

        with weather_site(url) as (connection, model, raw, backend):
            _fill(connection, rows)
            _compare(rows, model, raw, backend)


def _fill(connection: Any, rows: int) -> None:
    begun = time.perf_counter()
    with connection.cursor() as cursor:
        names = [(f"device {number}",) for number in range(DEVICES)]
        cursor.executemany("INSERT INTO weather_station (name) VALUES (%s)", names)
        for first in range(0, rows, ROWS_A_STATEMENT):
            cursor.execute(
                "INSERT INTO weather_weatherreading (device_id, timestamp, temperature, note) "
                "SELECT 1 + i %% %s, %s + (i / %s) * %s * interval '1 second', "
                "20 + 10 * sin(i / 5000.0), '' FROM generate_series(%s::bigint, %s) AS i",
                (
                    *(DEVICES, START, DEVICES, STEP_SECONDS, first),
                    min(first + ROWS_A_STATEMENT, rows) - 1,
                ),
            )
        cursor.execute("ANALYZE weather_weatherreading")
    print(f"  filled in {time.perf_counter() - begun:.0f} s")


def _compare(rows: int, model: Any, raw: Any, backend: Any) -> None:
    begun = time.perf_counter()
    backend.continuous_aggregate("bench_by_hour", model, "temperature")
    print(f"  continuous aggregate made in {time.perf_counter() - begun:.0f} s")
    # The last hour comes in afterwards: it is the part that is computed in real time.
    end = START + timedelta(seconds=rows // DEVICES * STEP_SECONDS)
    model.objects.using(raw.get_db_alias()).create(device_id=1, timestamp=end, temperature=1.0)

    def ask(storage: Any) -> list[dict[str, Any]]:
        return storage.aggregate(model, "temperature", "avg", interval="hour")

    slow, right = _timed(lambda: ask(raw), 1 if rows > 2_000_000 else 3)
    fast, found = _timed(lambda: ask(backend), ROUNDS)
    assert [row["bucket"] for row in found] == [row["bucket"] for row in right]
    difference = max(abs(a["result"] - b["result"]) for a, b in zip(found, right, strict=True))
    assert difference < 1e-9, difference
    print(f"  {len(found):,} hours, the same answers (floats differ by {difference:.0e} at most)")
    print(f"  from the readings       {slow * 1000:10.1f} ms")
    print(f"  continuous aggregate    {fast * 1000:10.1f} ms")
    print(f"  ratio                   {slow / fast:10.0f}     (bar at 10,000,000: {BAR})")


def _timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Return the median of the seconds that it takes, and what it gives."""
    seconds = []
    answer = None
    for _ in range(rounds):
        begun = time.perf_counter()
        answer = work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds), answer


@contextmanager
def _database() -> Iterator[tuple[str, str]]:
    external = os.environ.get(DSN_VARIABLE)
    if external is None:
        server = TimescaleServer()
        try:
            server.start()
            yield server.url, "TimescaleDB in WebAssembly (PGlite)"
        finally:
            server.remove()
        return
    name = f"bench_{uuid.uuid4().hex[:8]}"
    url = urlunsplit(urlsplit(external)._replace(path=f"/{name}"))
    with _connect(external) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        with _connect(url) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        yield url, "TimescaleDB, a full server"
    finally:
        with _connect(external) as connection:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url.replace("postgres://", "postgresql://", 1), autocommit=True)


if __name__ == "__main__":
    sys.exit(main())
