"""Events a second from ``record()`` to Redis, one process, beside an XADD and a task an event."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis
from celery import Celery
from servers import RedisServer

from tailrace.pipeline.config import Config
from tailrace.pipeline.recording import configure, flush, record
from tailrace.pipeline.runtime import Runtime


def main(rounds: int = 5, events: int = 300_000) -> None:
    """Print medians of events a second."""
    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory)) as server:
        ways: dict[str, Callable[[], float]] = {
            "tailrace: record() and flush": lambda: _tailrace(server, directory, events),
            "XADD an event, pipelined by 500": lambda: _xadd(server, events // 3),
            "Celery task an event": lambda: _celery(server, events // 150),
        }
        rates = {name: [way() for _ in range(rounds)] for name, way in ways.items()}
    print(f"Events a second from a call to Redis, one process, median of {rounds}:")
    for name, figures in rates.items():
        low, high = min(figures), max(figures)
        print(f"  {name:<34} {statistics.median(figures):>10,.0f}  ({low:,.0f} to {high:,.0f})")


def _tailrace(server: RedisServer, directory: str, events: int) -> float:
    with server.client() as client:
        client.flushall()
    # `block`: the figure is of events that arrive, so none may be dropped.
    config = Config(
        redis_url=server.url(),
        spool_dir=str(Path(directory) / "spool"),
        overflow="block",
        block_seconds=60.0,
        stream_max_bytes=2**33,
        redis_timeout_seconds=1.0,
    )
    configure(config)
    record("checkout", tags={"plan": "pro"}, fields={"amount": 12.5})
    flush()
    started = time.perf_counter()
    for _ in range(events):
        record("checkout", tags={"plan": "pro"}, fields={"amount": 12.5})
    is_sent = flush(60)
    seconds = time.perf_counter() - started
    configure(None)
    runtime = Runtime(config, lambda alias: _NothingDrained())
    arrived = sum(status.in_flight.get("checkout", 0) for status in runtime.status("default"))
    if not is_sent or arrived != events + 1:
        raise RuntimeError(f"{arrived} of {events + 1} events arrived")
    return events / seconds


class _NothingDrained:
    """A backend that has not begun: all is in flight."""

    def read_checkpoint(self, shard: int) -> None:
        return None


def _xadd(server: RedisServer, events: int) -> float:
    client = redis.Redis.from_url(server.url())
    started = time.perf_counter()
    for _ in range(0, events, 500):
        pipe = client.pipeline(transaction=False)
        for _ in range(500):
            pipe.xadd("peer", {"measurement": "checkout", "plan": "pro", "amount": 12.5})
        pipe.execute()
    seconds = time.perf_counter() - started
    client.close()
    return events / seconds


def _celery(server: RedisServer, events: int) -> float:
    app = Celery(broker=server.url(1))

    @app.task(name="peer", ignore_result=True)
    def task(plan: str, amount: float) -> None: ...

    task.delay("pro", 12.5)
    started = time.perf_counter()
    for _ in range(events):
        task.delay("pro", 12.5)
    seconds = time.perf_counter() - started
    app.close()
    return events / seconds


if __name__ == "__main__":
    main()
