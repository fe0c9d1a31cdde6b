"""Django's own connection pool (``OPTIONS["pool"]``) under a Celery worker and under commands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from databases.conftest import TESTS, Host

POOL = {"min_size": 1, "max_size": 2, "timeout": 4}
TASKS = 40
SEND = f"""
from databases.host.worker import app
for _ in range({TASKS}):
    app.send_task("host.count_orders")
"""


@pytest.fixture
def pooled(host: Host, postgres_database: Callable[[str], str], redis_url: str) -> Host:
    """The host on PostgreSQL with a pool, a table of orders, and Redis as Celery's broker."""
    host.settings = "databases.host.settings.recording"
    host.env["DATABASE__URL"] = postgres_database("pooled")
    host.env["HOST_POOL"] = json.dumps(POOL)
    host.env["HOST_REDIS_URL"] = host.env["HOST_BROKER_URL"] = redis_url
    return host


def work_off(host: Host, kind: str) -> list[dict[str, Any]]:
    """Run a worker until all tasks are done; return what they wrote down."""
    log = (host.data_dir / "worker.log").open("w")
    args = ["-A", "databases.host.worker", "worker", "--concurrency=4", f"--pool={kind}"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", *args, "--without-mingle", "--without-gossip"],
        env=host.environ(),
        cwd=TESTS,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    seen = host.data_dir / "tasks"
    deadline = time.monotonic() + 18
    try:
        while not seen.exists() or len(seen.read_text().splitlines()) < TASKS:
            said = (host.data_dir / "worker.log").read_text()[-3000:]
            assert worker.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
    finally:
        worker.terminate()
        try:
            worker.wait(8)
        except subprocess.TimeoutExpired:
            worker.kill()
        log.close()
    return [json.loads(line) for line in seen.read_text().splitlines()]


def check_no_pool_ran_dry(host: Host, done: list[dict[str, Any]]) -> dict[int, set[int]]:
    """Nothing waited in vain, and no session was shared; return the sessions of each process."""
    sessions: dict[int, set[int]] = defaultdict(set)
    for task in done:
        sessions[task["process"]].add(task["session"])
        assert task["pool_size"] <= POOL["max_size"]
        assert task.get("requests_errors", 0) == 0
    assert len(set().union(*sessions.values())) == sum(map(len, sessions.values()))
    said = (host.data_dir / "worker.log").read_text()
    assert "PoolTimeout" not in said
    assert "Traceback" not in said
    return sessions


def test_c_connection_pooling_in_a_celery_worker_of_threads(pooled: Host) -> None:
    """Four tasks at once over two connections: all run, and connections are used again."""
    pooled.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    pooled.python(SEND)
    done = work_off(pooled, "threads")
    check_no_pool_ran_dry(pooled, done)
    assert max(task["requests_num"] for task in done) >= TASKS, "each task asked the pool"
    assert max(task["connections_num"] for task in done) <= POOL["max_size"], "kept, not made anew"


@pytest.mark.parametrize("reuse", ["0", "1000"])
def test_c_connection_pooling_in_a_celery_worker_of_processes(pooled: Host, reuse: str) -> None:
    """Each child has a pool of its own.

    Celery throws a child's pool away after every task, unless ``CELERY_DB_REUSE_MAX`` is set.
    """
    pooled.env["HOST_DB_REUSE_MAX"] = reuse
    pooled.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    pooled.python(SEND)
    sessions = check_no_pool_ran_dry(pooled, work_off(pooled, "prefork"))
    if reuse != "0":
        assert max(map(len, sessions.values())) <= POOL["max_size"], "kept, not made anew"


COMMANDS = """
import json
from django.core.management import call_command
from django.db import connections
quiet = {"verbosity": 0, "stdout": open("/dev/null", "w")}
for _ in range(2):
    call_command("migrate_all", skip_makemigrations=True, non_interactive=True, **quiet)
    call_command("migrator", auto=True, **quiet)
    call_command("tailrace_drain", until_empty=True, **quiet)
    call_command("tailrace_status", **quiet)
    call_command("tailrace_maintain", vacuum=True, health_check=True, cleanup=True, **quiet)
stats = connections["default"].pool.get_stats()
connections["default"].close()
print(json.dumps([stats, connections["default"].pool.get_stats()]))
connections["default"].close_pool()
"""


def test_c_connection_pooling_in_commands(pooled: Host) -> None:
    """With a pool of one connection, every command gets by, and gives it back."""
    pooled.env["HOST_POOL"] = json.dumps({"min_size": 1, "max_size": 1, "timeout": 3})
    pooled.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    pooled.ok("createcachetable")
    stats, afterwards = json.loads(pooled.python(COMMANDS).splitlines()[-1])
    assert stats["requests_num"] >= 4
    assert stats.get("requests_errors", 0) == 0
    assert stats["connections_num"] <= 2, "the connection is kept from command to command"
    assert afterwards["pool_available"] == afterwards["pool_size"] == 1
