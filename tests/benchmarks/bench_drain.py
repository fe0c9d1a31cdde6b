"""From Redis to committed rows, beside the peers: same rows, same table, one run.

``python -m benchmarks.bench_drain`` (in ``tests/``); ``--quick`` for a look, ``--dropped`` for
the size of the partition that is dropped while writing goes on. ``TAILRACE_TEST_POSTGRES_DSN``
names a server to use in place of a private one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import redis
from benchmarks import drain_parts as parts
from benchmarks.drain_drop import bench_drop
from benchmarks.drain_workers import Workers
from postgres_server import PostgresServer
from servers import RedisServer

BACKEND = "tailrace.backends.postgres.PostgresBackend"
DSN_VARIABLE = "TAILRACE_TEST_POSTGRES_DSN"

#: name -> events in a second, one figure a round
Rates = dict[str, list[float]]


class Bench:
    """One table, one Redis, and everybody who writes the same rows into it."""

    def __init__(self, dsn: str, redis_url: str, events: int) -> None:
        from tailrace.backends.postgres_copy import packed
        from tailrace.pipeline.runtime import runtime

        self.connection = psycopg.connect(dsn.replace("postgres:", "postgresql:"), autocommit=True)
        self.redis = redis.Redis.from_url(redis_url)
        self.runtime = runtime()
        raw = parts.raw_events(events)
        self.events = parts.structs(raw)
        self.rows = parts.python_rows(self.events)
        self.buffers = list(packed(self.events))
        self.one_shard = {0: parts.frames(raw, 0)}
        half = events // 2
        self.two_shards = {0: parts.frames(raw[:half], 0), 1: parts.frames(raw[half:], 1)}
        self.workers = Workers(dsn, redis_url)
        self.rates: Rates = defaultdict(list)
        self.cpu_us: Rates = defaultdict(list)

    def round(self) -> None:
        """Let each one write once, one after the other, so that noise hits all alike."""
        self._time("bare COPY, write_row", lambda: parts.copy_rows(self.connection, self.rows))
        self._time("bare COPY, ready bytes", lambda: self._copy_buffers())
        drains = [
            ("drain", self.runtime.backend("default")),
            ("drain without books", parts.without_books()),
        ]
        # The two are close: let neither always come first.
        for name, backend in drains[:: 1 if len(self.rates["drain"]) % 2 else -1]:
            self._time(name, lambda backend=backend: self._drain(backend), self.one_shard)
        some = self.events[: len(self.events) // 5]
        self._time("bulk_create", lambda: parts.bulk_create(some))
        for count in (1, 2):
            name = f"{count} worker{'s'[: count - 1]}, 2 shards"
            with self.workers.ready(count) as go:
                self._time(name, go, self.two_shards)

    def _time(
        self, name: str, work: Callable[[], Any], frames: dict[int, list[bytes]] | None = None
    ) -> None:
        parts.empty_tables(self.connection)
        if frames is not None:
            parts.fill(self.redis, frames)
        cpu, started = time.process_time(), time.perf_counter()
        work()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        rows = parts.event_count(self.connection)
        expected = len(self.events) // (5 if name == "bulk_create" else 1)
        if rows != expected:
            raise RuntimeError(f"{name} stored {rows} of {expected} rows")
        self.rates[name].append(rows / seconds)
        self.cpu_us[name].append(cpu / rows * 1e6)

    def _copy_buffers(self) -> None:
        parts.copy_buffers(self.connection, self.buffers)

    def _drain(self, backend: Any) -> None:
        from tailrace.pipeline.drain import Drain

        aliases = ["default"]
        drain = Drain(self.runtime.config, self.runtime.stream, backend, lambda m: True, aliases)
        while not drain.run(0, 60).is_empty:
            pass

    def report(self) -> None:
        """Print medians, ratios and bars."""
        print(f"\n{len(self.events):,} events a round, medians of {len(self.rates['drain'])}:")
        for name, rates in self.rates.items():
            cpu = statistics.median(self.cpu_us[name])
            ours = "" if "worker" in name else f"  client CPU {cpu:5.2f} us an event"
            print(f"  {name:<24} {statistics.median(rates):9,.0f} rows/s{ours}")
        cpu = statistics.median(self.cpu_us["drain"])
        ratio = self._ratio
        print("bar, figure (medians of each round's own ratio):")
        copy, ready = (ratio("drain", f"bare COPY, {how}") for how in ("write_row", "ready bytes"))
        print(f"  >= 0.8 of a bare COPY by write_row    {copy:6.2f}")
        print(f"         of a bare COPY of ready bytes  {ready:6.2f}")
        print(f"  >= 5 times bulk_create                {ratio('drain', 'bulk_create'):6.2f}")
        price = 100 * (1 - ratio("drain", "drain without books"))
        print(f"  exactly-once costs <= 5 %             {price:6.1f} %")
        workers = ratio("2 workers, 2 shards", "1 worker, 2 shards")
        print(f"  two workers >= 1.2 times one          {workers:6.2f}")
        print(f"  worker CPU <= 6 us an event           {cpu:6.2f} us")

    def _ratio(self, ours: str, theirs: str) -> float:
        pairs = zip(self.rates[ours], self.rates[theirs], strict=True)
        return statistics.median(mine / other for mine, other in pairs)


def main(rounds: int = 5, events: int = 300_000, dropped: int = 10_000_000) -> None:
    """Run it all.

    Args:
        rounds: How often each one writes.
        events: How many rows it writes.
        dropped: Rows in the partition that is dropped; 0 leaves that part out.
    """
    external = os.environ.get(DSN_VARIABLE)
    server = None if external else PostgresServer(options=parts.SERVER_OPTIONS)
    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory)) as redis_server:
        try:
            if server is not None:
                server.start()
            _run(external or server.create_database("bench"), redis_server, rounds, events, dropped)  # type: ignore[union-attr]
        finally:
            if server is not None:
                server.remove()


def _run(dsn: str, redis_server: RedisServer, rounds: int, events: int, dropped: int) -> None:
    from django.core.management import call_command

    parts.configure_django(dsn, redis_server.url(), BACKEND, {})
    call_command("migrate", "tailrace", verbosity=0)
    bench = Bench(dsn, redis_server.url(), events)
    load = os.getloadavg()[0]
    print(f"load before: {load:.1f} on {os.cpu_count()} cores", flush=True)
    for number in range(rounds + 1):
        bench.round()
        if number == 0:  # the first one warms caches
            bench.rates.clear()
            bench.cpu_us.clear()
    bench.report()
    print(f"load after: {os.getloadavg()[0]:.1f}", flush=True)
    parts.empty_tables(bench.connection)
    if dropped:
        bench_drop(dsn, dropped)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--dropped", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="two rounds, and a smaller drop")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.events, given.dropped = 2, 100_000, 1_000_000
    sys.exit(main(given.rounds, given.events, given.dropped))
