"""How long a request's row takes: from its answer to a committed row, idle and under load."""

from __future__ import annotations

import http.client
import json
import sqlite3
import statistics
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

from faults.harness import Site
from servers import RedisServer, free_port

_POLL_SECONDS = 0.02


def main(seconds: float = 20.0) -> None:
    """Print p50, p95 and maximum of the delay, with default settings and one worker."""
    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory) / "r") as server:
        site = Site(Path(directory), server.url())
        site.migrate()
        port = free_port()
        web = ["--workers=2", "--threads=4", "--keep-alive=30"]
        site.start("gunicorn", "project.wsgi", f"--bind=127.0.0.1:{port}", *web)
        site.start("celery", "-A", "project.celery", "worker", "-B", "--loglevel=WARNING")
        try:
            _warm_up(port)
            for rate in (1, 200):
                _report(rate, _delays(site, port, rate, seconds))
        finally:
            site.stop_all()


def _warm_up(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            _get(port, 0)
        except OSError:
            time.sleep(0.2)
        else:
            time.sleep(8)  # the worker and beat
            return
    raise RuntimeError("the shop does not answer")


def _get(port: int, number: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", f"/health/?page={number}")
        connection.getresponse().read()


def _delays(site: Site, port: int, rate: float, seconds: float) -> list[float]:
    answered: dict[str, float] = {}
    seen: dict[str, float] = {}
    stop = threading.Event()
    poller = threading.Thread(target=_watch, args=(site, seen, stop))
    poller.start()
    base = int(rate) * 1_000_000
    visitors = max(1, int(rate // 25))
    threads = [
        threading.Thread(target=_visit, args=(port, base + v, visitors, rate, seconds, answered))
        for v in range(visitors)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 20
    while answered.keys() - seen.keys() and time.monotonic() < deadline:
        time.sleep(0.1)
    stop.set()
    poller.join()
    if missing := answered.keys() - seen.keys():
        raise RuntimeError(f"{len(missing)} of {len(answered)} requests have no row")
    return [seen[page] - moment for page, moment in answered.items()]


def _visit(
    port: int, first: int, step: int, rate: float, seconds: float, answered: dict[str, float]
) -> None:
    pause = step / rate
    number, due = first, time.perf_counter()
    end = due + seconds
    while due < end:
        _get(port, number)
        answered[f"page={number}"] = time.perf_counter()
        number += step
        due += pause
        time.sleep(max(0.0, due - time.perf_counter()))


def _watch(site: Site, seen: dict[str, float], stop: threading.Event) -> None:
    """Note when each row can first be read; rows come in the order of their ids."""
    statement = (
        "SELECT id, fields FROM tailrace_event WHERE id > ? AND measurement = 'request' ORDER BY id"
    )
    last = 0
    with closing(sqlite3.connect(site.directory / "shop.sqlite3", timeout=10)) as connection:
        while not stop.is_set():
            rows = connection.execute(statement, [last]).fetchall()
            now = time.perf_counter()
            for row_id, fields in rows:
                last = row_id
                seen.setdefault(json.loads(fields).get("query_string", ""), now)
            time.sleep(_POLL_SECONDS)


def _report(rate: float, delays: list[float]) -> None:
    cuts = statistics.quantiles(delays, n=100)
    print(
        f"Answer to row at {rate:g} requests/s, {len(delays)} requests: "
        f"p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, max {max(delays):.2f} s"
    )


if __name__ == "__main__":
    main()
