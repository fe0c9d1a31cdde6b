"""Live traffic beside a backfill."""

from __future__ import annotations

import threading
import time

from backfill.copy_site import CopySite
from servers import RedisServer


class Traffic(threading.Thread):
    """Records events now and then, until it is told to stop."""

    def __init__(self, site: CopySite) -> None:
        super().__init__(daemon=True)
        self.site = site
        self.sent = 0
        self._ends = threading.Event()

    def run(self) -> None:
        while not self._ends.wait(0.02):
            numbers = range(self.sent, self.sent + 20)
            # A Redis that is slow to answer only delays them: they are sent again, or spooled.
            self.site.sender.send(numbers)
            self.sent += len(numbers)
        while not self.site.sender.flusher.flush(timeout_seconds=5):
            time.sleep(0.1)

    def stop(self) -> None:
        """Record no more; return when all is in Redis."""
        self._ends.set()
        self.join(60)
        assert not self.is_alive()


def wait_until_empty(server: RedisServer) -> None:
    """Wait until every backend has drained everything."""
    deadline = time.monotonic() + 60
    with server.client() as client:
        while any(client.xlen(key) for key in client.keys("*:stream")):
            assert time.monotonic() < deadline, "the drains did not end"
            time.sleep(0.2)
