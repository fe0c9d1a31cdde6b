"""Dropping an expired partition, and deleting as many rows, while a worker goes on writing."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

_BATCH_EVENTS = 5_000
_POLL_SECONDS = 0.001
_QUIET_SECONDS = 5.0

_FILL = """
INSERT INTO {table} (id, uid, time, measurement, trace_id, tags, fields)
SELECT
    i, gen_random_uuid(), {start} + i * interval '1 millisecond', 'query', md5(i::text),
    '{{"alias": "default", "operation": "SELECT", "table": "shop_item"}}',
    '{{"duration_ms": 1.5, "rows": 10, "sql": "SELECT 1", "slow": false, "duplicates": 0}}'
FROM generate_series(1, {rows}) AS i
"""
_LOCKS = """
SELECT bool_or(granted), bool_or(NOT granted) FROM pg_locks
WHERE relation = 'tailrace_event'::regclass AND mode = 'AccessExclusiveLock'
"""


def bench_drop(dsn: str, count: int) -> None:
    """Fill two expired days with ``count`` rows each; drop one, delete the other.

    Args:
        dsn: Of a database whose events' table is empty.
        count: Rows.
    """
    from tailrace.backends.postgres import PostgresBackend

    backend = PostgresBackend("default", {"PARTITION": "day"})
    backend.setup()
    # The table takes a partition of any past day, if somebody asks for that day's.
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    expired, deleted = today - timedelta(days=20), today - timedelta(days=10)
    for day in (today, expired, deleted):
        backend.ensure_partitions(day)
    with psycopg.connect(dsn.replace("postgres:", "postgresql:"), autocommit=True) as connection:
        for day in (expired, deleted):
            _fill(connection, f"tailrace_event_d{day:%Y%m%d}", day, count)
        writer = _Writer(dsn)
        time.sleep(_QUIET_SECONDS)
        started = time.monotonic()
        dropping = _watched(dsn, lambda: backend.drop_partitions(expired + timedelta(days=1)))
        dropped_until = time.monotonic()
        time.sleep(1.0)
        delete_started = time.monotonic()
        query = sql.SQL("DELETE FROM {}").format(
            sql.Identifier(f"tailrace_event_d{deleted:%Y%m%d}")
        )
        connection.execute(query)
        deleted_until = time.monotonic()
        batches = writer.stop()
    _report(count, dropping, batches, (started, dropped_until), (delete_started, deleted_until))


def _fill(connection: psycopg.Connection[Any], table: str, day: datetime, count: int) -> None:
    step = timedelta(hours=23) / max(count, 1)
    fill = _FILL.replace("interval '1 millisecond'", "{step}")
    query = sql.SQL(fill).format(  # type: ignore[arg-type]
        table=sql.Identifier(table),
        start=sql.Literal(day),
        step=sql.Literal(step),
        rows=sql.Literal(count),
    )
    connection.execute(query)
    connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))


class _Writer:
    """A process that writes a batch after the other, and times each."""

    def __init__(self, dsn: str) -> None:
        command = [sys.executable, "-m", "benchmarks.drain_drop", dsn]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError("the writer did not start")

    def stop(self) -> list[tuple[float, float, str]]:
        """End it; return (start, seconds, error or nothing) for each batch."""
        output, _ = self._process.communicate("stop\n", timeout=60)
        return [tuple(batch) for batch in json.loads(output)]  # type: ignore[misc]


def _watched(dsn: str, work: Callable[[], Any]) -> tuple[Any, float, float, float]:
    """Do work; return its result, its seconds, and how long the parent was locked or queued for."""
    stop = threading.Event()
    longest = {"held": 0.0, "waited": 0.0}

    def watch() -> None:
        since: dict[str, float | None] = {"held": None, "waited": None}
        with psycopg.connect(dsn.replace("postgres:", "postgresql:"), autocommit=True) as watcher:
            while not stop.is_set():
                asked = time.monotonic()
                states = watcher.execute(_LOCKS).fetchone() or (None, None)
                for name, is_on in zip(since, states, strict=True):
                    start = since[name] if is_on else None
                    since[name] = (start or asked) if is_on else None
                    if is_on:
                        longest[name] = max(longest[name], time.monotonic() - (start or asked))
                time.sleep(_POLL_SECONDS)

    thread = threading.Thread(target=watch)
    thread.start()
    time.sleep(0.1)
    started = time.monotonic()
    try:
        result = work()
    finally:
        seconds = time.monotonic() - started
        stop.set()
        thread.join()
    return result, seconds, longest["held"], longest["waited"]


def _report(
    count: int,
    dropping: tuple[Any, float, float, float],
    batches: list[tuple[float, float, str]],
    drop: tuple[float, float],
    delete: tuple[float, float],
) -> None:
    _, seconds, held, waited = dropping
    failed = [error for _, _, error in batches if error]
    print(f"\n{count:,} expired rows, while batches of {_BATCH_EVENTS:,} go on:")
    print(f"  drop_partitions                {seconds * 1000:9.0f} ms")
    print(f"  parent locked at a time        {held * 1000:9.1f} ms (bar: under 100)")
    print(f"  queued for that lock at a time {waited * 1000:9.1f} ms (given up after 50)")
    print(f"  DELETE of as many rows         {(delete[1] - delete[0]) * 1000:9.0f} ms")
    print(f"  batches written, failed        {len(batches):6}, {len(failed)} (bar: none)")
    before = [b[1] for b in batches if b[0] + b[1] < drop[0]]
    print(f"  batch before                   {_latency(before)}")
    print(f"  batch that meets the drop      {_latency(_meeting(batches, drop))}")
    print(f"  batch that meets the DELETE    {_latency(_meeting(batches, delete))}")
    for error in failed[:3]:
        print(f"  failed: {error}")


def _meeting(batches: list[tuple[float, float, str]], span: tuple[float, float]) -> list[float]:
    return [took for start, took, _ in batches if start < span[1] and start + took > span[0]]


def _latency(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    return (
        f"median {statistics.median(seconds) * 1000:6.0f} ms, longest {max(seconds) * 1000:6.0f} ms"
    )


def write_until_told(dsn: str) -> None:
    """Be the writer."""
    from benchmarks.bench_drain import BACKEND
    from benchmarks.drain_parts import configure_django, raw_events, structs

    configure_django(dsn, "redis://127.0.0.1:1/0", BACKEND, {})
    from tailrace.backends import get_backend
    from tailrace.pipeline.checkpoint import Checkpoint
    from tailrace.pipeline.errors import BackendError

    backend, batches = get_backend(), []
    backend.create_checkpoint(Checkpoint(0))
    events = structs(raw_events(_BATCH_EVENTS))
    is_told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), is_told.set()), daemon=True).start()
    print("ready", flush=True)
    while not is_told.is_set():
        started, error = time.monotonic(), ""
        for event in events:
            event.time_ns = time.time_ns()
        try:
            with backend.transaction(0) as tx:
                tx.write(events)
                tx.advance(tx.checkpoint, [])
        except BackendError as problem:
            error = str(problem)
        batches.append((started, time.monotonic() - started, error))
    print(json.dumps(batches), flush=True)


if __name__ == "__main__":
    write_until_told(sys.argv[1])
