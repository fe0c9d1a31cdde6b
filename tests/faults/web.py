"""The shop under gunicorn, for tests of what happens to its processes."""

from __future__ import annotations

import http.client
import time

from faults.harness import Site
from servers import free_port


class Web:
    """The shop under gunicorn."""

    def __init__(self, site: Site, *options: str, **environment: str) -> None:
        self.port = free_port()
        bind = f"--bind=127.0.0.1:{self.port}"
        self.process = site.start("gunicorn", "project.wsgi", bind, *options, **environment)
        deadline = time.monotonic() + 60
        while self.get("/health/") != 200:
            assert self.process.poll() is None, "gunicorn has ended"
            assert time.monotonic() < deadline, "gunicorn does not answer"
            time.sleep(0.2)

    def get(self, path: str) -> int:
        """Return the status of an answer, or 0 where there was none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        except OSError:
            return 0
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
