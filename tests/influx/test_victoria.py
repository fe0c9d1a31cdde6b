"""VictoriaMetrics takes the writes of InfluxDB 2; what else it can do, and cannot, is said plainly.

``apt install victoria-metrics``; where there is none, the test is skipped with that reason.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from influx.servers import free_port

from tailrace.backends.influx.server import Capabilities
from tailrace.backends.influxdb import InfluxDBBackend
from tailrace.backends.testing.reading_data import make
from tailrace.backends.testing.reading_tools import ReaderTools
from tailrace.pipeline.errors import NotSupportedByBackend

START_SECONDS = 30.0
PROGRAM = shutil.which("victoria-metrics")


@pytest.fixture
def victoria_url(tmp_path: Path) -> Iterator[str]:
    """A VictoriaMetrics on a private port."""
    if PROGRAM is None:
        pytest.skip("no VictoriaMetrics on PATH: apt install victoria-metrics")
    url = f"127.0.0.1:{free_port()}"
    command = [PROGRAM, f"-storageDataPath={tmp_path}", f"-httpListenAddr={url}"]
    command += ["-retentionPeriod=100y", "-loggerLevel=ERROR", "-memory.allowedBytes=64MB"]
    with (tmp_path.parent / "victoria.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(f"http://{url}", process)
        yield f"http://{url}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, "victoria-metrics did not start"
            assert time.monotonic() < deadline, "victoria-metrics does not answer"
            time.sleep(0.1)


class Stored(ReaderTools):
    def __init__(self, backend: InfluxDBBackend) -> None:
        self.backend = backend

    def make_backend(self) -> InfluxDBBackend:
        return self.backend


@pytest.mark.skipif(PROGRAM is None, reason="no VictoriaMetrics: apt install victoria-metrics")
def test_numbers_are_written_or_skipped_where_there_is_no_victoria_metrics(
    victoria_url: str, books: str
) -> None:
    options = {"URL": victoria_url, "BUCKET": "web", "BOOKS_ALIAS": books}
    backend = InfluxDBBackend("default", options)
    backend.setup()
    moment = datetime.now(UTC) - timedelta(hours=1)
    made = [
        make("checkout", moment + n * timedelta(seconds=1), {"plan": "pro"}, {"n": n, "s": "text"})
        for n in range(20)
    ]
    Stored(backend).stored(*made)
    Stored(backend).add(backend, made)  # again: the same points
    urllib.request.urlopen(f"{victoria_url}/internal/force_flush", timeout=10).close()
    query = f"{victoria_url}/api/v1/export?match[]=checkout_n"
    with urllib.request.urlopen(query, timeout=10) as answer:
        series = [json.loads(line) for line in answer]
    values = {
        (time_ms, value)
        for each in series
        for time_ms, value in zip(each["timestamps"], each["values"], strict=True)
    }
    assert sorted(value for _, value in values) == list(range(20))
    assert {each["metric"]["plan"] for each in series} == {"pro"}
    can = backend.capabilities()
    assert can.product == "VictoriaMetrics"
    # A build of Debian's tells no version.
    assert can == Capabilities("VictoriaMetrics", can.version, strings=False)
    for ask in (backend.rollup_tasks, backend.ensure_bucket, lambda: backend.query("checkout")):
        with pytest.raises(NotSupportedByBackend, match="VictoriaMetrics"):
            ask()
    assert backend.refresh_due() == {}
    assert backend.health_check()["status"] == "pass"
    backend.close()
