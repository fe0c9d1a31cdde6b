"""Live traffic beside a copy, and what it and the copy's workers suffer."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import redis
from backfill.copy_site import CopySite
from servers import RedisServer

LIVE_EVENTS_A_SECOND = 200


class Watch(threading.Thread):
    """Live traffic, how far its drain lags, and how much memory the copying workers take."""

    def __init__(self, site: CopySite, redis_server: RedisServer) -> None:
        super().__init__(daemon=True)
        self.site = site
        self.redis = redis_server
        self.workers: list[subprocess.Popen[bytes]] = []
        self.sent = 0
        self.lag_seconds = self.worst_lag_seconds = 0.0
        self.worst_memory_mb = 0.0
        self.ends = threading.Event()

    def run(self) -> None:
        batch = LIVE_EVENTS_A_SECOND // 4
        with self.redis.client() as client:
            while not self.ends.wait(0.25):
                self.site.sender.send(range(self.sent, self.sent + batch))
                self.sent += batch
                self.lag_seconds = _lag_seconds(client)
                self.worst_lag_seconds = max(self.worst_lag_seconds, self.lag_seconds)
                for worker in self.workers:
                    self.worst_memory_mb = max(self.worst_memory_mb, _memory_mb(worker.pid))
        while not self.site.sender.flusher.flush(timeout_seconds=5):
            time.sleep(0.1)
        with self.redis.client() as client:
            while any(client.xlen(key) for key in client.keys("*:stream")):
                time.sleep(0.1)

    def wait_for_drains(self) -> None:
        """Wait until both drains have started and keep up, which is no matter of the copy."""
        good = 0
        while good < 10:
            time.sleep(0.5)
            good = good + 1 if self.sent and self.lag_seconds < 1 else 0
        self.worst_lag_seconds = 0.0


def _lag_seconds(client: redis.Redis) -> float:
    """Return the age of the oldest entry that is not yet in both ends."""
    seconds, microseconds = client.time()
    now, ages = seconds + microseconds / 1e6, [0.0]
    for key in client.keys("*:stream"):
        for entry_id, _ in client.xrange(key, count=1):
            ages.append(now - int(entry_id.split(b"-")[0]) / 1000)
    return max(ages)


def _memory_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0  # it has ended
    resident = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(resident[0].split()[1]) / 1024 if resident else 0.0
