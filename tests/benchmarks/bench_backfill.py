"""Copies of millions of events under kill -9 and live traffic, and how fast a copy is.

``python -m benchmarks.bench_backfill`` (in ``tests/``): ``--rows 5000000`` is the whole; ``--pair``
(``sqlite-postgres``, ``postgres-timescale`` or ``postgres-postgres``) chooses the databases,
``--rate`` measures one worker beside the bare drain and nothing else. TimescaleDB is the server
that ``TAILRACE_BENCH_TIMESCALE_URL`` names, else one in WebAssembly, which has a single session.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from backfill.copy_site import MEASUREMENT, CopySite
from benchmarks import backfill_rate, drain_parts
from benchmarks.backfill_watch import Watch
from postgres_server import PostgresServer
from servers import RedisServer
from timescale_server import TimescaleServer

TIMESCALE = "tailrace.backends.timescale.TimescaleDBBackend"
TIMESCALE_VARIABLE = "TAILRACE_BENCH_TIMESCALE_URL"
PAIRS = ("sqlite-postgres", "postgres-timescale")
WORKERS = 2
LAG_BAR_SECONDS = 5.0
MEMORY_BAR_MB = 50.0
MEMORY_ROWS = 100_000
"""Of the small copy, whose workers' memory the large one's is compared with."""
MATURE_SECONDS = 2.0
"""Younger workers are not killed: they would be still importing Django."""
_SQLITE_SEED = """
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {rows})
    INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id)
    SELECT lower(hex(randomblob(16))), 'checkout',
        strftime('%Y-%m-%d %H:%M:%f', 1767225600 + n * 0.05, 'unixepoch') || '000',
        '{{"plan":"p' || (n % 5) || '","country":"C' || (n % 40) || '","channel":"web"}}',
        '{{"n":' || n || ',"amount":' || ((n % 50000) / 100.0)
            || ',"items":' || (n % 6) || ',"coupon":null,"currency":"EUR","first":true}}',
        ''
    FROM numbers
"""
_POSTGRES_SEED = """
    INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id)
    SELECT gen_random_uuid(), 'checkout',
        timestamptz '2026-01-01 00:00+00' + n * interval '50 ms',
        jsonb_build_object('plan', 'p' || n % 5, 'country', 'C' || n % 40, 'channel', 'web'),
        jsonb_build_object('n', n, 'amount', (n % 50000) / 100.0, 'items', n % 6,
            'coupon', null, 'currency', 'EUR', 'first', true),
        ''
    FROM generate_series(0, {rows} - 1) AS n
"""


_LIVE = "SELECT count(*), count(DISTINCT uid) FROM tailrace_event WHERE measurement = 'fault.test'"


def copy_under_fire(site: CopySite, redis_server: RedisServer, rows: int, kills: int) -> float:
    """Copy while workers are killed and live traffic goes on; print and check what came of it.

    Returns:
        The most memory that a worker took, in MB.
    """
    _seed(site, rows)
    for alias in ("old", "new"):
        site.start("manage", "tailrace_drain", "--loop", "--backend", alias)
    watch = Watch(site, redis_server)
    watch.start()
    watch.wait_for_drains()
    started = time.monotonic()
    done = site.copy_all("--detach", "--workers", str(WORKERS))
    assert done.returncode == 0, done.stderr
    killed = _work(site, watch, kills, random.Random(rows))
    seconds = time.monotonic() - started
    watch.ends.set()
    watch.join()
    _report(site, watch, rows, killed, seconds)
    return watch.worst_memory_mb


def _work(site: CopySite, watch: Watch, kills: int, randomly: random.Random) -> int:
    """Keep workers at work until the end, and kill one each time that so much more is done."""
    uid, killed = site.latest()["uid"], 0
    born: dict[int, float] = {}
    while (state := site.latest()["state"]) == "running":
        watch.workers = [worker for worker in watch.workers if worker.poll() is None]
        while len(watch.workers) < WORKERS:
            watch.workers.append(site.start("manage", "tailrace_backfill", "work", uid))
            born[watch.workers[-1].pid] = time.monotonic()
        grown = time.monotonic() - MATURE_SECONDS
        mature = [worker for worker in watch.workers if born[worker.pid] <= grown]
        if killed < kills and mature and _fraction(site, uid) >= killed / kills:
            time.sleep(randomly.uniform(0, 0.5))
            randomly.choice(mature).send_signal(signal.SIGKILL)
            killed += 1
        time.sleep(0.1)
    if state != "done":
        raise RuntimeError(f"the copy is {state}: {site.latest()}")
    return killed


def _fraction(site: CopySite, uid: str) -> float:
    """Return how much is done, from 0.0 to 1.0; -1.0 while it is planned."""
    statement = (
        "SELECT count(*), coalesce(sum(CASE WHEN state = 'done' THEN 1 ELSE 0 END), 0) "
        f"FROM tailrace_backfillstep WHERE backfill = '{uid}'"
    )
    total, done = site.rows(statement)[0]
    return int(done) / total if total else -1.0


def _report(site: CopySite, watch: Watch, rows: int, killed: int, seconds: float) -> None:
    result = site.latest()["result"]
    counts = [_counts(site, where) for where in ("old", "new")]
    print(f"  {rows:,} rows in {seconds:,.0f} s ({rows / seconds:,.0f} rows/s), {WORKERS} workers")
    again = site.rows(
        "SELECT count(*) FROM tailrace_backfillstep "
        f"WHERE backfill = '{site.latest()['uid']}' AND attempts > 1"
    )[0][0]
    print(f"  {killed} kill -9, {again} steps begun again, {watch.sent:,} live events meanwhile")
    print(f"  rows and distinct ids: source {counts[0]}, target {counts[1]}")
    print(f"  checksums: {result['source_digest']} and {result['target_digest']}")
    print(f"  live lag <= {LAG_BAR_SECONDS} s: {watch.worst_lag_seconds:.2f} s at worst")
    print(f"  memory of a worker: {watch.worst_memory_mb:.0f} MB at most", flush=True)
    if counts[0] != (rows, rows) or counts[0] != counts[1]:
        raise RuntimeError("the target is not what the source is")
    if result["source_digest"] != result["target_digest"]:
        raise RuntimeError("the checksums differ")
    live = [site.rows_at(where, _LIVE) for where in ("old", "new")]
    if live != [[(watch.sent, watch.sent)]] * 2:
        raise RuntimeError(f"of {watch.sent} live events there are {live}")


def _counts(site: CopySite, where: str) -> tuple[int, int]:
    statement = (
        "SELECT count(*), count(DISTINCT uid) FROM tailrace_event "
        f"WHERE measurement = '{MEASUREMENT}'"
    )
    return tuple(site.rows_at(where, statement)[0])  # type: ignore[return-value]


def _seed(site: CopySite, rows: int) -> None:
    if url := site.urls["old"]:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_POSTGRES_SEED.replace("{rows}", str(rows)))  # type: ignore[arg-type]
            connection.execute("ANALYZE tailrace_event")
        return
    with closing(sqlite3.connect(site.directory / "shop.sqlite3")) as connection:
        connection.execute(_SQLITE_SEED.format(rows=rows))
        connection.commit()


def main(rows: int = 200_000, kills: int = 20, pairs: tuple[str, ...] = PAIRS) -> None:
    """Run the copies under fire, small and large, then the rate.

    Args:
        rows: In the large one.
        kills: In the large one.
        pairs: Of databases.
    """
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    for pair in pairs:
        memory = []
        for count, shots in ((MEMORY_ROWS, 1), (rows, kills)):
            print(f"{pair}: {count:,} rows", flush=True)
            memory.append(_run(pair, count, shots))
        more = memory[1] - memory[0]
        print(f"  memory within {MEMORY_BAR_MB:.0f} MB of the small copy's: {more:+.0f} MB")
    rate()


def rate(rounds: int = 3, events: int = 200_000) -> None:
    """Measure one worker beside the bare drain."""
    print("PostgreSQL to PostgreSQL, one worker, beside the bare drain:", flush=True)
    with _servers() as (server, redis_server, _):
        backfill_rate.main(server, redis_server, rounds, events)
    print(f"load after: {os.getloadavg()[0]:.1f}", flush=True)


def _run(pair: str, rows: int, kills: int) -> float:
    with _servers() as (server, redis_server, directory), _timescale(pair) as timescale:
        site = _site(pair, server, redis_server, directory, timescale)
        try:
            return copy_under_fire(site, redis_server, rows, kills)
        finally:
            site.stop_all()


def _site(
    pair: str, server: PostgresServer, redis_server: RedisServer, directory: Path, timescale: str
) -> CopySite:
    urls = [
        server.create_database(f"bench_{name}") if engine == "postgres" else ""
        for engine, name in zip(pair.split("-"), ("old", "new"), strict=True)
    ]
    site = CopySite(directory, redis_server.url(), urls[0], timescale or urls[1], is_dual=True)
    if timescale:
        site.backends["new"]["BACKEND"] = TIMESCALE
    site.migrate()
    migrated = site.manage("migrate", "tailrace", "--database=telemetry", "--verbosity=0")
    assert migrated.returncode == 0, migrated.stderr
    return site


@contextmanager
def _timescale(pair: str) -> Iterator[str]:
    """Yield the URL of an empty database with TimescaleDB, or nothing if the pair has none."""
    url = os.environ.get(TIMESCALE_VARIABLE) if pair.endswith("timescale") else ""
    if url is not None:
        yield url
        return
    server = TimescaleServer()
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


@contextmanager
def _servers() -> Iterator[tuple[PostgresServer, RedisServer, Path]]:
    server = PostgresServer(options=drain_parts.SERVER_OPTIONS)
    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory)) as redis_server:
        try:
            server.start()
            yield server, redis_server, Path(directory)
        finally:
            server.remove()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pair", action="append", metavar="PAIR")
    parser.add_argument("--rate", action="store_true", help="only the rate")
    given = parser.parse_args()
    if given.rate:
        rate()
    else:
        main(given.rows, given.kills, tuple(given.pair or PAIRS))
    sys.exit(0)
