"""Tasks and beat entries register themselves, in the host's app and in the one we ship."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.harness import Site
from servers import RedisServer


@pytest.fixture
def site(tmp_path: Path, own_redis_server: RedisServer) -> Iterator[Site]:
    made = Site(tmp_path, own_redis_server.url())
    made.migrate()
    yield made
    made.stop_all()


@pytest.mark.parametrize("app", ["project.celery", "tailrace.django_integration.celery_app"])
def test_worker_with_beat_drains_with_nothing_copied(site: Site, app: str) -> None:
    site.start("celery", "-A", app, "worker", "-B", "--concurrency=1", "--loglevel=INFO")
    numbers = range(1_200)
    site.sender.send(numbers)
    deadline = time.monotonic() + 40
    while len(site.stored()) < len(numbers):
        assert time.monotonic() < deadline, (site.directory / "celery-0.log").read_text()[-3000:]
        time.sleep(0.3)
    site.assert_each_once(numbers)
    site.assert_balanced(captured=1_200, stored=1_200)
    log = (site.directory / "celery-0.log").read_text()
    assert "celery@" in log, "INFO is logged"
    said = [line for line in log.splitlines() if re.search(r"Task tailrace|due task", line)]
    assert not said, "ticks would bring lines each second"


def test_the_names_of_tasks_and_entries(site: Site) -> None:
    script = (
        "import django; django.setup()\n"
        "from project.celery import app\n"
        "from tailrace.pipeline.schedule import entries\n"
        "from tailrace.pipeline.runtime import runtime\n"
        "app.loader.import_default_modules(); app.finalize()\n"
        "print(sorted(name for name in app.tasks if name.startswith('tailrace.')))\n"
        "print(sorted(entries(runtime())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=site.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    tasks, names = done.stdout.splitlines()
    ours = ["backfill", "backfills", "chore", "drain", "tick"]
    assert tasks == str([f"tailrace.{name}" for name in ours])
    entries = ["backends", "backfills", "cleanup", "refresh", "retention", "tick"]
    assert names == str([f"tailrace.{name}" for name in entries])


def test_beat_applies_retention(site: Site) -> None:
    site.sender.send(range(100), "request")
    site.drain()
    old = "2001-01-01 00:00:00"
    site.execute(f"UPDATE tailrace_event SET time = '{old}' WHERE id % 2 = 0")
    site.start(
        *("celery", "-A", "project.celery", "worker", "-B", "--concurrency=1"),
        PROJECT_RETENTION='{"request": "7 days"}',
    )
    deadline = time.monotonic() + 60
    while site.rows("SELECT count(*) FROM tailrace_event WHERE measurement = 'request'") != [(50,)]:
        assert time.monotonic() < deadline, (site.directory / "celery-0.log").read_text()[-3000:]
        time.sleep(0.3)
    buckets = site.rows("SELECT sum(count) FROM tailrace_rollupbucket WHERE field = ''")
    assert buckets[0][0] >= 50, "what is gone was not in the rollup"
    assert ("retention",) in site.rows("SELECT name FROM tailrace_job")


def test_a_stopped_redis_leaves_the_worker_alive(site: Site, own_redis_server: RedisServer) -> None:
    worker = site.start("celery", "-A", "project.celery", "worker", "-B", "--concurrency=1")
    site.sender.send(range(10))
    _wait_for(site, 10)
    own_redis_server.kill()
    time.sleep(3)
    own_redis_server.start()
    site.sender.send(range(10, 500))
    while not site.sender.flusher.flush(5):
        time.sleep(0.2)
    _wait_for(site, 500)
    assert worker.poll() is None
    site.assert_each_once(range(500))


def _wait_for(site: Site, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(site.stored()) < count:
        assert time.monotonic() < deadline, f"{len(site.stored())} of {count} stored"
        time.sleep(0.3)
