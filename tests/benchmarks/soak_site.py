"""The parts of ``make soak``: servers, processes, numbered load, and the faults done to them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from faults.harness import Sender, Site
from faults.web import Web
from postgres_server import PostgresServer
from servers import RedisServer
from tcp_proxy import BlackHole, TcpProxy

BATCH_SECONDS = 0.2
VISITORS = 2
PAUSE_SECONDS = 0.03
"""Between two requests of one visitor."""
UNSENT_SECONDS = 2.0
"""SIGKILL of a web process costs what is in its memory: a flush interval, and as much again for a
busy machine. What was answered earlier must not be missing."""
OUTAGE_SECONDS = 3.0
DRAIN_POINTS = ("after_read", "mid_write", "before_commit", "after_commit", "mid_trim")
CELERY = ("celery", "-A", "project.celery", "worker", "--concurrency=2", "--loglevel=WARNING")


class Load:
    """Numbered events from this process, and numbered requests to the web processes."""

    def __init__(self, sender: Sender, web: Web, events_per_second: int) -> None:
        self.sent = 0
        self.answered: dict[int, float] = {}
        """When each numbered page was answered, by the monotonic clock."""
        self._sender = sender
        self._web = web
        self._batch = max(1, round(events_per_second * BATCH_SECONDS))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send)]
        for number in range(VISITORS):
            self._threads.append(threading.Thread(target=self._visit, args=(number,)))

    def start(self) -> None:
        """Start all threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads; what they have sent stays counted."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        while not self._stop.wait(BATCH_SECONDS):
            numbers = range(self.sent, self.sent + self._batch)
            self.sent += self._batch
            self._sender.send(numbers)

    def _visit(self, first: int) -> None:
        page = first
        while not self._stop.wait(PAUSE_SECONDS):
            if self._web.get(f"/health/?page={page}") == 200:
                self.answered[page] = time.monotonic()
            page += VISITORS


class SoakSite:
    """A site on PostgreSQL whose Redis can be reached through a proxy only, under load."""

    def __init__(self, directory: Path, events_per_second: int, randomly: random.Random) -> None:
        self.randomly = randomly
        self.web_killed: list[float] = []
        with contextlib.ExitStack() as stack:
            self.redis = stack.enter_context(RedisServer(directory / "redis"))
            self.postgres = PostgresServer()
            stack.callback(self.postgres.remove)
            self.postgres.start()
            self.proxy = stack.enter_context(TcpProxy(self.redis.port))
            url = f"redis://127.0.0.1:{self.proxy.port}/0"
            self.site = Site(directory, url, self.postgres.create_database("soak"))
            stack.callback(self.site.stop_all)
            self.site.migrate()
            self.web = Web(self.site, "--workers=2", "--threads=2")
            # One worker lives through it all, with beat; the other one is killed now and then.
            schedule = f"--schedule={directory / 'beat'}"
            self.steady = self.site.start(*CELERY, "--beat", schedule, "--hostname=steady@%h")
            self.start_worker()
            self.load = Load(self.site.sender, self.web, events_per_second)
            self._stack = stack.pop_all()

    def start_worker(self) -> None:
        """Start the worker that faults may kill."""
        self.worker = self.site.start(*CELERY, "--hostname=mortal@%h")

    def close(self) -> None:
        """End everything that was started here."""
        self._stack.close()

    # --- the faults; each leaves everything running again

    def kill_worker(self) -> None:
        """SIGKILL to a Celery worker with its children."""
        os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait()
        time.sleep(self.randomly.uniform(0, OUTAGE_SECONDS))
        self.start_worker()

    def kill_web(self) -> None:
        """SIGKILL to the younger web process; the other one lives through it all."""
        children = descendants(self.web.process.pid)
        os.kill(max(children), signal.SIGKILL)
        self.web_killed.append(time.monotonic())

    def kill_drain(self) -> None:
        """SIGKILL to a drain at one of its fault points, while workers drain too."""
        point = self.randomly.choice(DRAIN_POINTS)
        passes = self.randomly.randrange(3)
        deadline = time.monotonic() + 30
        while self.site.drain(fault=f"{point}=kill:{passes}") != -signal.SIGKILL:
            # The workers were quicker and left it nothing to die of.
            assert time.monotonic() < deadline, f"no drain has come to {point}"

    def empty_redis(self) -> None:
        """Redis dies and comes back with nothing."""
        self.redis.restart_empty()

    def rewind_redis(self) -> None:
        """Redis dies and comes back as it was some seconds before."""
        snapshot = self.redis.snapshot()
        time.sleep(self.randomly.uniform(0.5, OUTAGE_SECONDS))
        self.redis.restart_from(snapshot)
        snapshot.unlink()

    def stop_redis(self) -> None:
        """Redis ends and comes back with what it had a moment before, as with a disk of its own."""
        snapshot = self.redis.snapshot()
        self.redis.stop()
        time.sleep(self.randomly.uniform(0, OUTAGE_SECONDS))
        self.redis.start()
        snapshot.unlink()

    def black_hole(self, seconds: float) -> None:
        """Nothing gets through to Redis, and nothing is refused."""
        self.proxy.inject(BlackHole())
        time.sleep(seconds)
        self.proxy.heal()

    def restart_postgres(self) -> None:
        """PostgreSQL loses power, or is stopped, and comes back."""
        self.randomly.choice((self.postgres.kill, self.postgres.stop))()
        time.sleep(self.randomly.uniform(0, OUTAGE_SECONDS))
        self.postgres.start()

    # --- what can be seen of it

    def waiting(self) -> tuple[float, int] | None:
        """Return the largest lag in seconds and the entries that wait; ``None``: no answer."""
        try:
            done = self.site.manage("tailrace_status", "--json")
        except subprocess.TimeoutExpired:
            return None
        # Under load the two sides of the books are read at two moments, so only the end counts.
        if not done.stdout.startswith("["):
            return None
        shards = json.loads(done.stdout)[0]["shards"]
        lag_seconds = max(shard["lag_seconds"] for shard in shards)
        return lag_seconds, sum(shard["entries"] for shard in shards)

    def redis_bytes(self) -> int:
        """Return what Tailrace's keys take up."""
        with self.redis.client() as client:
            keys = list(client.scan_iter("tailrace:*"))
            return sum(client.memory_usage(key) or 0 for key in keys)

    def rss_bytes(self) -> dict[tuple[str, int], int]:
        """Return the resident memory of each web and worker process, by role and pid."""
        roots = {"web": self.web.process.pid, "worker": self.steady.pid}
        found = {}
        for role, root in roots.items():
            for pid in (root, *descendants(root)):
                with contextlib.suppress(OSError):
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                    found[role, pid] = pages * os.sysconf("SC_PAGE_SIZE")
        return found


def descendants(pid: int) -> Iterator[int]:
    """Yield the children of a process, their children, and so on."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from descendants(int(child))
