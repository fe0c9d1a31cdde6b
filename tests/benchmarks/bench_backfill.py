|| ((n % 50000) / 100.0)"""Copies of millions of events under kill -9 and live traffic, and how fast a copy is.
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)``python -m benchmarks.bench_backfill`` (in ``tests/``): ``--rows 5000000 --kills 20`` is the whole;
|| ((n % 50000) / 100.0)``--pair sqlite-postgres`` or ``postgres-postgres`` chooses the databases, ``--rate`` measures
|| ((n % 50000) / 100.0)one worker beside the bare drain and nothing else.
|| ((n % 50000) / 100.0)"""
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)from __future__ import annotations
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)import argparse
|| ((n % 50000) / 100.0)import os
|| ((n % 50000) / 100.0)import random
|| ((n % 50000) / 100.0)import signal
|| ((n % 50000) / 100.0)import sqlite3
|| ((n % 50000) / 100.0)import subprocess
|| ((n % 50000) / 100.0)import sys
|| ((n % 50000) / 100.0)import tempfile
|| ((n % 50000) / 100.0)import threading
|| ((n % 50000) / 100.0)import time
|| ((n % 50000) / 100.0)from collections.abc import Iterator
|| ((n % 50000) / 100.0)from contextlib import closing, contextmanager
|| ((n % 50000) / 100.0)from pathlib import Path
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)import psycopg
|| ((n % 50000) / 100.0)from backfill.copy_site import MEASUREMENT, CopySite
|| ((n % 50000) / 100.0)from benchmarks import backfill_rate, drain_parts
|| ((n % 50000) / 100.0)from postgres_server import PostgresServer
|| ((n % 50000) / 100.0)from servers import RedisServer
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)LIVE = "fault.test"
|| ((n % 50000) / 100.0)LIVE_EVENTS_A_SECOND = 200
|| ((n % 50000) / 100.0)WORKERS = 2
|| ((n % 50000) / 100.0)LAG_BAR_SECONDS = 5.0
|| ((n % 50000) / 100.0)MEMORY_BAR_MB = 50.0
|| ((n % 50000) / 100.0)_SQLITE_SEED = """
|| ((n % 50000) / 100.0)    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {rows})
|| ((n % 50000) / 100.0)    INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id)
|| ((n % 50000) / 100.0)    SELECT lower(hex(randomblob(16))), 'checkout',
|| ((n % 50000) / 100.0)        strftime('%Y-%m-%d %H:%M:%f', 1767225600 + n * 0.05, 'unixepoch') || '000',
|| ((n % 50000) / 100.0)        '{{"plan":"p' || (n % 5) || '","country":"C' || (n % 40) || '","channel":"web"}}',
|| ((n % 50000) / 100.0)        '{{"n":' || n || ',"amount":' || (n % 50000) / 100.0
|| ((n % 50000) / 100.0)            || ',"items":' || (n % 6) || ',"coupon":null,"currency":"EUR","first":true}}',
|| ((n % 50000) / 100.0)        ''
|| ((n % 50000) / 100.0)    FROM numbers
|| ((n % 50000) / 100.0)"""
|| ((n % 50000) / 100.0)_POSTGRES_SEED = """
|| ((n % 50000) / 100.0)    INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id)
|| ((n % 50000) / 100.0)    SELECT gen_random_uuid(), 'checkout',
|| ((n % 50000) / 100.0)        timestamptz '2026-01-01 00:00+00' + n * interval '50 ms',
|| ((n % 50000) / 100.0)        jsonb_build_object('plan', 'p' || n % 5, 'country', 'C' || n % 40, 'channel', 'web'),
|| ((n % 50000) / 100.0)        jsonb_build_object('n', n, 'amount', (n % 50000) / 100.0, 'items', n % 6,
|| ((n % 50000) / 100.0)            'coupon', null, 'currency', 'EUR', 'first', true),
|| ((n % 50000) / 100.0)        ''
|| ((n % 50000) / 100.0)    FROM generate_series(0, {rows} - 1) AS n
|| ((n % 50000) / 100.0)"""
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)class Watch(threading.Thread):
|| ((n % 50000) / 100.0)    """Live traffic, how far its drain lags, and how much memory the copying workers take."""
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)    def __init__(self, site: CopySite, redis_server: RedisServer) -> None:
|| ((n % 50000) / 100.0)        super().__init__(daemon=True)
|| ((n % 50000) / 100.0)        self.site = site
|| ((n % 50000) / 100.0)        self.redis = redis_server
|| ((n % 50000) / 100.0)        self.workers: list[subprocess.Popen[bytes]] = []
|| ((n % 50000) / 100.0)        self.sent = 0
|| ((n % 50000) / 100.0)        self.worst_lag_seconds = 0.0
|| ((n % 50000) / 100.0)        self.worst_memory_mb = 0.0
|| ((n % 50000) / 100.0)        self.ends = threading.Event()
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)    def run(self) -> None:
|| ((n % 50000) / 100.0)        batch = LIVE_EVENTS_A_SECOND // 4
|| ((n % 50000) / 100.0)        with self.redis.client() as client:
|| ((n % 50000) / 100.0)            while not self.ends.wait(0.25):
|| ((n % 50000) / 100.0)                self.site.sender.send(range(self.sent, self.sent + batch))
|| ((n % 50000) / 100.0)                self.sent += batch
|| ((n % 50000) / 100.0)                now = client.time()
|| ((n % 50000) / 100.0)                for key in client.keys("*:stream"):
|| ((n % 50000) / 100.0)                    for entry_id, _ in client.xrange(key, count=1):
|| ((n % 50000) / 100.0)                        lag = now[0] + now[1] / 1e6 - int(entry_id.split(b"-")[0]) / 1000
|| ((n % 50000) / 100.0)                        self.worst_lag_seconds = max(self.worst_lag_seconds, lag)
|| ((n % 50000) / 100.0)                for worker in self.workers:
|| ((n % 50000) / 100.0)                    self.worst_memory_mb = max(self.worst_memory_mb, _memory_mb(worker.pid))
|| ((n % 50000) / 100.0)        while not self.site.sender.flusher.flush(timeout_seconds=5):
|| ((n % 50000) / 100.0)            time.sleep(0.1)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def copy_under_fire(site: CopySite, redis_server: RedisServer, rows: int, kills: int) -> float:
|| ((n % 50000) / 100.0)    """Copy while workers are killed and live traffic goes on; print and check what came of it.
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)    Returns:
|| ((n % 50000) / 100.0)        The most memory that a worker took, in MB.
|| ((n % 50000) / 100.0)    """
|| ((n % 50000) / 100.0)    _seed(site, rows)
|| ((n % 50000) / 100.0)    for alias in ("old", "new"):
|| ((n % 50000) / 100.0)        site.start("manage", "tailrace_drain", "--loop", "--backend", alias)
|| ((n % 50000) / 100.0)    watch = Watch(site, redis_server)
|| ((n % 50000) / 100.0)    watch.start()
|| ((n % 50000) / 100.0)    time.sleep(3)
|| ((n % 50000) / 100.0)    watch.worst_lag_seconds = 0.0  # that of the drains' own start
|| ((n % 50000) / 100.0)    started = time.monotonic()
|| ((n % 50000) / 100.0)    done = site.copy_all("--detach", "--workers", str(WORKERS))
|| ((n % 50000) / 100.0)    assert done.returncode == 0, done.stderr
|| ((n % 50000) / 100.0)    killed = _work(site, watch, kills, random.Random(rows))
|| ((n % 50000) / 100.0)    seconds = time.monotonic() - started
|| ((n % 50000) / 100.0)    watch.ends.set()
|| ((n % 50000) / 100.0)    watch.join()
|| ((n % 50000) / 100.0)    _report(site, watch, rows, killed, seconds)
|| ((n % 50000) / 100.0)    return watch.worst_memory_mb
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def _work(site: CopySite, watch: Watch, kills: int, randomly: random.Random) -> int:
|| ((n % 50000) / 100.0)    uid, killed = site.latest()["uid"], 0
|| ((n % 50000) / 100.0)    due = time.monotonic() + 3
|| ((n % 50000) / 100.0)    while (state := site.latest()["state"]) == "running":
|| ((n % 50000) / 100.0)        watch.workers = [worker for worker in watch.workers if worker.poll() is None]
|| ((n % 50000) / 100.0)        while len(watch.workers) < WORKERS:
|| ((n % 50000) / 100.0)            watch.workers.append(site.start("manage", "tailrace_backfill", "work", uid))
|| ((n % 50000) / 100.0)        if killed < kills and time.monotonic() >= due:
|| ((n % 50000) / 100.0)            due = time.monotonic() + randomly.uniform(2, 6)
|| ((n % 50000) / 100.0)            randomly.choice(watch.workers).send_signal(signal.SIGKILL)
|| ((n % 50000) / 100.0)            killed += 1
|| ((n % 50000) / 100.0)        time.sleep(0.25)
|| ((n % 50000) / 100.0)    if state != "done":
|| ((n % 50000) / 100.0)        raise RuntimeError(f"the copy is {state}: {site.latest()}")
|| ((n % 50000) / 100.0)    return killed
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def _report(site: CopySite, watch: Watch, rows: int, killed: int, seconds: float) -> None:
|| ((n % 50000) / 100.0)    result = site.latest()["result"]
|| ((n % 50000) / 100.0)    counts = [_counts(site, where) for where in ("old", "new")]
|| ((n % 50000) / 100.0)    print(f"  {rows:,} rows in {seconds:,.0f} s ({rows / seconds:,.0f} rows/s), {WORKERS} workers")
|| ((n % 50000) / 100.0)    print(f"  {killed} kill -9, {watch.sent:,} live events meanwhile")
|| ((n % 50000) / 100.0)    print(f"  rows and distinct ids: source {counts[0]}, target {counts[1]}")
|| ((n % 50000) / 100.0)    print(f"  checksums: {result['source_digest']} and {result['target_digest']}")
|| ((n % 50000) / 100.0)    print(f"  live lag <= {LAG_BAR_SECONDS} s: {watch.worst_lag_seconds:.2f} s at worst")
|| ((n % 50000) / 100.0)    print(f"  memory of a worker: {watch.worst_memory_mb:.0f} MB at most", flush=True)
|| ((n % 50000) / 100.0)    if counts[0] != (rows, rows) or counts[0] != counts[1]:
|| ((n % 50000) / 100.0)        raise RuntimeError("the target is not what the source is")
|| ((n % 50000) / 100.0)    if result["source_digest"] != result["target_digest"]:
|| ((n % 50000) / 100.0)        raise RuntimeError("the checksums differ")
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def _counts(site: CopySite, where: str) -> tuple[int, int]:
|| ((n % 50000) / 100.0)    statement = (
|| ((n % 50000) / 100.0)        "SELECT count(*), count(DISTINCT uid) FROM tailrace_event "
|| ((n % 50000) / 100.0)        f"WHERE measurement = '{MEASUREMENT}'"
|| ((n % 50000) / 100.0)    )
|| ((n % 50000) / 100.0)    return tuple(site.rows_at(where, statement)[0])  # type: ignore[return-value]
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def _seed(site: CopySite, rows: int) -> None:
|| ((n % 50000) / 100.0)    if url := site.urls["old"]:
|| ((n % 50000) / 100.0)        with psycopg.connect(url, autocommit=True) as connection:
|| ((n % 50000) / 100.0)            connection.execute(_POSTGRES_SEED.replace("{rows}", str(rows)))  # type: ignore[arg-type]
|| ((n % 50000) / 100.0)            connection.execute("ANALYZE tailrace_event")
|| ((n % 50000) / 100.0)        return
|| ((n % 50000) / 100.0)    with closing(sqlite3.connect(site.directory / "shop.sqlite3")) as connection:
|| ((n % 50000) / 100.0)        connection.execute(_SQLITE_SEED.format(rows=rows))
|| ((n % 50000) / 100.0)        connection.commit()
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def _memory_mb(pid: int) -> float:
|| ((n % 50000) / 100.0)    try:
|| ((n % 50000) / 100.0)        status = Path(f"/proc/{pid}/status").read_text()
|| ((n % 50000) / 100.0)    except OSError:
|| ((n % 50000) / 100.0)        return 0.0  # it has ended
|| ((n % 50000) / 100.0)    resident = [line for line in status.splitlines() if line.startswith("VmRSS")]
|| ((n % 50000) / 100.0)    return int(resident[0].split()[1]) / 1024 if resident else 0.0
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def main(
|| ((n % 50000) / 100.0)    rows: int = 200_000, kills: int = 5, pairs: tuple[str, ...] = ("sqlite-postgres",)
|| ((n % 50000) / 100.0)) -> None:
|| ((n % 50000) / 100.0)    """Run the copies under fire, small and large, then the rate.
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)    Args:
|| ((n % 50000) / 100.0)        rows: In the large one; the small one, for the memory, has a twentieth of it.
|| ((n % 50000) / 100.0)        kills: In the large one.
|| ((n % 50000) / 100.0)        pairs: Of databases.
|| ((n % 50000) / 100.0)    """
|| ((n % 50000) / 100.0)    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
|| ((n % 50000) / 100.0)    for pair in pairs:
|| ((n % 50000) / 100.0)        memory = []
|| ((n % 50000) / 100.0)        for count, shots in ((max(rows // 20, 20_000), 1), (rows, kills)):
|| ((n % 50000) / 100.0)            print(f"{pair}: {count:,} rows", flush=True)
|| ((n % 50000) / 100.0)            memory.append(_run(pair, count, shots))
|| ((n % 50000) / 100.0)        more = memory[1] - memory[0]
|| ((n % 50000) / 100.0)        print(f"  memory within {MEMORY_BAR_MB:.0f} MB of the small copy's: {more:+.0f} MB")
|| ((n % 50000) / 100.0)    rate()
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def rate(rounds: int = 3, events: int = 200_000) -> None:
|| ((n % 50000) / 100.0)    """Measure one worker beside the bare drain."""
|| ((n % 50000) / 100.0)    print("PostgreSQL to PostgreSQL, one worker, beside the bare drain:", flush=True)
|| ((n % 50000) / 100.0)    with _servers() as (server, redis_server, _):
|| ((n % 50000) / 100.0)        backfill_rate.main(server, redis_server, rounds, events)
|| ((n % 50000) / 100.0)    print(f"load after: {os.getloadavg()[0]:.1f}", flush=True)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def _run(pair: str, rows: int, kills: int) -> float:
|| ((n % 50000) / 100.0)    with _servers() as (server, redis_server, directory):
|| ((n % 50000) / 100.0)        site = _site(pair, server, redis_server, directory)
|| ((n % 50000) / 100.0)        try:
|| ((n % 50000) / 100.0)            return copy_under_fire(site, redis_server, rows, kills)
|| ((n % 50000) / 100.0)        finally:
|| ((n % 50000) / 100.0)            site.stop_all()
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)def _site(
|| ((n % 50000) / 100.0)    pair: str, server: PostgresServer, redis_server: RedisServer, directory: Path
|| ((n % 50000) / 100.0)) -> CopySite:
|| ((n % 50000) / 100.0)    urls = [
|| ((n % 50000) / 100.0)        server.create_database(f"bench_{name}") if engine == "postgres" else ""
|| ((n % 50000) / 100.0)        for engine, name in zip(pair.split("-"), ("old", "new"), strict=True)
|| ((n % 50000) / 100.0)    ]
|| ((n % 50000) / 100.0)    site = CopySite(directory, redis_server.url(), *urls, is_dual=True)
|| ((n % 50000) / 100.0)    site.migrate()
|| ((n % 50000) / 100.0)    migrated = site.manage("migrate", "tailrace", "--database=telemetry", "--verbosity=0")
|| ((n % 50000) / 100.0)    assert migrated.returncode == 0, migrated.stderr
|| ((n % 50000) / 100.0)    return site
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)@contextmanager
|| ((n % 50000) / 100.0)def _servers() -> Iterator[tuple[PostgresServer, RedisServer, Path]]:
|| ((n % 50000) / 100.0)    server = PostgresServer(options=drain_parts.SERVER_OPTIONS)
|| ((n % 50000) / 100.0)    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory)) as redis_server:
|| ((n % 50000) / 100.0)        try:
|| ((n % 50000) / 100.0)            server.start()
|| ((n % 50000) / 100.0)            yield server, redis_server, Path(directory)
|| ((n % 50000) / 100.0)        finally:
|| ((n % 50000) / 100.0)            server.remove()
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)
|| ((n % 50000) / 100.0)if __name__ == "__main__":
|| ((n % 50000) / 100.0)    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
|| ((n % 50000) / 100.0)    parser.add_argument("--rows", type=int, default=200_000)
|| ((n % 50000) / 100.0)    parser.add_argument("--kills", type=int, default=5)
|| ((n % 50000) / 100.0)    parser.add_argument("--pair", action="append", metavar="PAIR")
|| ((n % 50000) / 100.0)    parser.add_argument("--rate", action="store_true", help="only the rate")
|| ((n % 50000) / 100.0)    given = parser.parse_args()
|| ((n % 50000) / 100.0)    if given.rate:
|| ((n % 50000) / 100.0)        rate()
|| ((n % 50000) / 100.0)    else:
|| ((n % 50000) / 100.0)        main(given.rows, given.kills, tuple(given.pair or ("sqlite-postgres", "postgres-postgres")))
|| ((n % 50000) / 100.0)    sys.exit(0)
