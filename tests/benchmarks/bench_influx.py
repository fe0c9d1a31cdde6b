"""InfluxDB: our encoder beside the client's ``Point``, our drain beside its batching ``WriteApi``.

``python -m benchmarks.bench_influx`` (in ``tests/``); ``--quick`` for a look.
``TAILRACE_TEST_INFLUX_URL``, ``_TOKEN`` and ``_ORG`` name a server in place of an ``influxd`` on
PATH. Both write the same events to the same server, each time into a fresh bucket, and what it
has afterwards is counted.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from benchmarks import drain_parts as parts
from influx.servers import InfluxAddress, NoInflux, real_influx
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import WriteOptions
from servers import RedisServer

from tailrace.pipeline.event import Event

Raw = tuple[Any, ...]
_ENCODED = 20_000
_ENCODING_ROUNDS = 7
_BATCH = 5_000
_NOW_NS = 1_790_000_000 * 10**9


def raw_events(count: int) -> list[Raw]:
    """Return events with three tags and five fields, at times that a clock measured."""
    rng = random.Random(1)
    return [
        (
            "request",
            _NOW_NS + number * 1_000_123,
            {"route": f"api/items/{number % 24}/", "method": "GET", "status": "200"},
            {
                "duration_ms": round(rng.expovariate(0.02), 3),
                "queries": number % 9,
                "bytes": rng.randrange(200, 40_000),
                "user": f"user-{rng.randrange(5000)}",
                "cached": number % 8 == 0,
            },
            None,
        )
        for number in range(count)
    ]


# --- encoding


def as_point(event: Event) -> Point:
    """Return an event as the client wants it, id and all."""
    point = Point(event.measurement)
    for name, tag in event.tags.items():
        point.tag(name, tag)
    for name, value in event.fields.items():
        point.field(name, value)
    return point.time(event.time_ns)


def bench_encoding(rounds: int) -> float:
    """Print CPU for an event, ours with identity and id; return how many times cheaper it is.

    Of each, the best round counts: other work on the machine makes both dearer, never cheaper.
    """
    from tailrace.backends.line_protocol import LineEncoder, Marks

    events = [Event(*raw, id=random.randbytes(16)) for raw in raw_events(_ENCODED)]
    encoder = LineEncoder()

    def ours() -> None:
        for start in range(0, _ENCODED, _BATCH):
            some = events[start : start + _BATCH]
            lines = encoder.encode(some).lines(Marks.own(some))
            assert len(lines.texts) == len(some)

    def theirs() -> None:
        for start in range(0, _ENCODED, _BATCH):
            assert all(as_point(e).to_line_protocol() for e in events[start : start + _BATCH])

    cpu: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds + 1):
        for name, work in (("ours", ours), ("theirs", theirs)):
            started = time.process_time()
            work()
            if number:
                cpu[name].append((time.process_time() - started) / _ENCODED * 1e6)
    ours_us, theirs_us = min(cpu["ours"]), min(cpu["theirs"])
    print(f"  encoder               {ours_us:6.2f} us CPU an event (best of {len(cpu['ours'])})")
    print(f"  Point.to_line_protocol {theirs_us:5.2f} us CPU an event")
    return theirs_us / ours_us


# --- writing


class Bench:
    """One server, one Redis, and the two who write."""

    def __init__(self, address: InfluxAddress, redis_url: str, events: int) -> None:
        self.address = address
        self.redis = redis.Redis.from_url(redis_url)
        self.raw = raw_events(events)
        self.frames = {0: parts.frames(self.raw, 0)}
        self.buckets = 0
        self.rates: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[str], Any]) -> None:
        """Let one of them write into a fresh bucket, and check that all of it is there."""
        from tailrace.backends.influx.client import InfluxApi, Server
        from tailrace.backends.influx.server import Buckets

        self.buckets += 1
        bucket = f"bench {os.getpid()} {self.buckets}"
        api = InfluxApi(Server(self.address.url, self.address.token, self.address.org))
        Buckets(api, self.address.org).ensure(bucket, 0)
        api.close()
        started = time.perf_counter()
        work(bucket)
        seconds = time.perf_counter() - started
        count = self.count(bucket)
        if count != len(self.raw):
            print(f"  ({name} stored {count:,} of {len(self.raw):,})")
        self.rates.setdefault(name, []).append(count / seconds)

    def count(self, bucket: str) -> int:
        """Count the points that have a duration."""
        query = (
            f'from(bucket: "{bucket}") |> range(start: 2020-01-01T00:00:00Z, '
            'stop: 2100-01-01T00:00:00Z) |> filter(fn: (r) => r._field == "duration_ms") '
            "|> group() |> count()"
        )
        with self._client() as client:
            return sum(r.get_value() for t in client.query_api().query(query) for r in t.records)

    def drain(self, bucket: str) -> None:
        """Drain the stream with one worker."""
        from tailrace.backends.influxdb import InfluxDBBackend
        from tailrace.pipeline.drain import Drain
        from tailrace.pipeline.runtime import runtime

        options = {"URL": self.address.url, "TOKEN": self.address.token, "ORG": self.address.org}
        backend = InfluxDBBackend("default", {**options, "BUCKET": bucket, "TIMEOUT": 60})
        stream = runtime().stream
        drain = Drain(runtime().config, stream, backend, lambda m: True, ["default"])
        while not drain.run(0, 60).is_empty:
            pass
        backend.close()

    def write_api(self, bucket: str) -> None:
        """Feed the client's batching WriteApi with the same events, decoded already."""
        options = WriteOptions(batch_size=_BATCH, flush_interval=1_000)
        with self._client() as client, client.write_api(write_options=options) as write:
            for raw in self.raw:
                write.write(bucket=bucket, record=as_point(Event(*raw)))

    def round(self) -> None:
        """Let each write once, one after the other, so that noise hits both."""
        parts.fill(self.redis, self.frames)
        _empty_books()
        self.time("drain", self.drain)
        self.time("WriteApi, batching", self.write_api)

    def _client(self) -> Any:
        address = self.address
        return InfluxDBClient(address.url, address.token, org=address.org, timeout=120_000)


def _empty_books() -> None:
    from django.apps import apps

    for model in apps.get_app_config("tailrace").get_models():
        model._base_manager.all().delete()


def _configure(folder: Path, redis_url: str) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    sqlite = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(folder / "books.sqlite3"),
        "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"},
    }
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "tailrace.django_integration"],
        USE_TZ=True,
        DATABASES={"default": sqlite},
        TAILRACE={
            "REDIS_URL": redis_url,
            "KEY_PREFIX": parts.PREFIX,
            "SHARDS": 2,
            "ENABLED": False,
        },
    )
    django.setup()
    call_command("migrate", "tailrace", verbosity=0)


@contextmanager
def _servers() -> Iterator[tuple[InfluxAddress, RedisServer, Path]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with real_influx(folder) as address, RedisServer(folder) as redis_server:
            yield address, redis_server, folder


def main(rounds: int = 3, events: int = 100_000) -> None:
    """Run it all.

    Args:
        rounds: How often each one works.
        events: How many events it writes.
    """
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    try:
        with _servers() as (address, redis_server, folder):
            _configure(folder, redis_server.url())
            ratio = bench_encoding(max(rounds, _ENCODING_ROUNDS))
            print(f"bar: >= 8 times cheaper than Point      {ratio:6.1f}", flush=True)
            bench = Bench(address, redis_server.url(), events)
            for number in range(rounds + 1):
                bench.round()
                if number == 0:  # the first one warms caches
                    bench.rates.clear()
    except NoInflux as reason:
        sys.exit(str(reason))
    for name, rates in bench.rates.items():
        print(f"  {name:<20} {statistics.median(rates):9,.0f} events/s")
    pairs: Sequence[tuple[float, float]] = list(zip(*bench.rates.values(), strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"bar: >= 5 times the batching WriteApi   {ratio:6.1f}")
    print(f"load after: {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="one round, fewer events")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.events = 1, 20_000
    sys.exit(main(given.rounds, given.events))
