"""Processes that Python's own hooks do not see end, or begin."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from faults.harness import TESTS_DIR, Sender, Site
from servers import RedisServer, free_port

pytestmark = pytest.mark.faults

_RECORDS = """
import os, sys, time
from tailrace.pipeline.config import Config
from tailrace.pipeline.recording import configure, record
configure(Config(redis_url=sys.argv[1], spool_dir=sys.argv[2], flush_interval_seconds=3600))
"""
_SCRIPT = (
    _RECORDS
    + """
for n in range(400):
    record("fault.test", fields={"n": n})
print("ready", flush=True)
time.sleep(60)
"""
)
_FORKS_WITHOUT_HOOKS = (
    _RECORDS
    + """
import ctypes, signal
fork = ctypes.CDLL(None).fork  # as uWSGI forks: in C, and no hook of Python's runs
for child in range(4):
    if fork() == 0:
        for n in range(child * 100, child * 100 + 100):
            record("fault.test", fields={"n": n})
        from tailrace.pipeline.recording import close
        close()
        os._exit(0)
for child in range(4):
    os.wait()
"""
)


def test_a_script_that_is_terminated_loses_nothing(
    sqlite_site: Site, own_redis_server: RedisServer
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, own_redis_server.url(), str(sqlite_site.spool)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM, "it must end as it would without us"
    process.stdout.close()
    sqlite_site.drain()
    sqlite_site.assert_each_once(range(400))


def test_workers_forked_without_hooks_are_producers_of_their_own(
    sqlite_site: Site, own_redis_server: RedisServer
) -> None:
    script = [sys.executable, "-c", _FORKS_WITHOUT_HOOKS]
    subprocess.run(
        [*script, own_redis_server.url(), str(sqlite_site.spool)], check=True, timeout=60
    )
    sqlite_site.drain()
    sqlite_site.assert_each_once(range(400))
    sqlite_site.assert_balanced(captured=400, stored=400)


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_of_uvicorn_loses_nothing(sqlite_site: Site, workers: int) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is in the test group: make test installs it")
    port = free_port()
    options = [f"--port={port}", f"--workers={workers}", "--log-level=warning"]
    process = sqlite_site.start(
        *("uvicorn", "project.asgi:application", f"--app-dir={TESTS_DIR}", *options),
        PROJECT_FLUSH_INTERVAL_SECONDS="3600",
    )
    deadline = time.monotonic() + 60
    while _get(port, "/health/") != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    statuses = [_get(port, f"/health/?page={n}") for n in range(100)]
    os.kill(process.pid, signal.SIGTERM)
    process.wait(30)
    assert set(statuses) == {200}
    sqlite_site.drain()
    rows = sqlite_site.rows("SELECT fields FROM tailrace_event WHERE measurement = 'request'")
    recorded = Counter(json.loads(row[0]).get("query_string") for row in rows)
    assert not [n for n in range(100) if recorded[f"page={n}"] != 1]


def _get(port: int, path: str) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0


def test_a_full_redis_and_the_end_of_the_process_keep_the_counts(
    sqlite_site: Site, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    """What is dropped is counted even if the process ends while nothing gets through."""
    for overflow in ("drop_newest", "drop_oldest"):
        sender = Sender(
            own_redis_server.url(),
            tmp_path / overflow,
            overflow=overflow,
            stream_max_bytes=2**16,
            shards=1,
        )
        for start in range(0, 40_000, 500):
            sender.send(range(start, start + 500), measurement=overflow)
        sender.close()
        for _ in range(6):  # others fill the stream on, and push out what the first one left
            other = Sender(
                own_redis_server.url(), tmp_path / overflow, shards=1, stream_max_bytes=2**16
            )
            for _ in range(10):
                other.send(range(500), measurement="other")
            other.close()
        sqlite_site.drain()
        ledger = sqlite_site.status()["ledger"][overflow]
        assert ledger["captured"] == 40_000, ledger
        assert ledger["stored"] + sum(ledger["dropped"].values()) == 40_000
