"""A copy beside live traffic that is written to both ends: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter

import pytest
from backfill.copy_site import CopySite, make_rows
from backfill.traffic import Traffic, wait_until_empty
from faults.harness import MEASUREMENT
from servers import RedisServer

pytestmark = pytest.mark.faults

HISTORY = 6_000


@pytest.mark.parametrize("pair", ["sqlite-postgres", "postgres-postgres"])
def test_dual_writing_while_history_is_copied_again_and_again(
    make_site: object, pair: str, own_redis_server: RedisServer, seed: int
) -> None:
    """The very measurement that is copied comes in, and the copy's window has no end."""
    site: CopySite = make_site(pair, own_redis_server, is_dual=True)  # type: ignore[operator]
    site.seed(make_rows(HISTORY, MEASUREMENT, first=10**9))
    drains = [
        site.start("manage", "tailrace_drain", "--loop", "--backend", alias)
        for alias in ("old", "new")
    ]
    traffic = Traffic(site)
    traffic.start()
    randomly = random.Random(seed)
    ends = ("--source", "old", "--target", "new", "--measurement", MEASUREMENT)
    for _ in range(3):
        kill = f"backfill_before_commit=kill:{randomly.randrange(4)}"
        fault = kill if randomly.random() < 0.5 else ""
        site.backfill("copy", *ends, "--slice-rows", "1000", fault=fault)
    _let_one_drain_lag(drains[1].pid)
    last = site.backfill("copy", *ends, "--slice-rows", "1000")
    assert last.returncode == 0, last.stdout + last.stderr
    traffic.stop()
    wait_until_empty(own_redis_server)
    old, new = (_numbers(site, where) for where in ("old", "new"))
    assert old == new
    assert set(new.values()) == {1}
    assert len(new) == HISTORY + traffic.sent


def _let_one_drain_lag(pid: int) -> None:
    """Stop a drain for a while: what the source has, the target still has to drain."""
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(4.0, os.kill, (pid, signal.SIGCONT)).start()


def _numbers(site: CopySite, where: str) -> Counter[str]:
    return Counter(row[0] for row in site.events(where, MEASUREMENT))
