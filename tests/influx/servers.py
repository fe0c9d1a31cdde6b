"""A real InfluxDB for the tests: one that the environment names, or our own on a private port."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_ORG, _BUCKET, _TOKEN = "tailrace", "tailrace", "tailrace-test-token"


class NoInflux(Exception):
    """There is none; the text says what would make one."""


@dataclass(frozen=True)
class InfluxAddress:
    """Where a server is, and who may do everything there."""

    url: str
    token: str
    org: str


@contextmanager
def real_influx(folder: Path) -> Iterator[InfluxAddress]:
    """Give a server; one that was started here ends with the block.

    Args:
        folder: For its files.

    Raises:
        NoInflux: none is configured, and there is no program on PATH.
    """
    url = os.environ.get("TAILRACE_TEST_INFLUX_URL")
    if url:
        token = os.environ.get("TAILRACE_TEST_INFLUX_TOKEN", "")
        yield InfluxAddress(url, token, os.environ.get("TAILRACE_TEST_INFLUX_ORG", _ORG))
        return
    program = shutil.which("influxd")
    if program is None:
        raise NoInflux(
            "no InfluxDB: set TAILRACE_TEST_INFLUX_URL, _TOKEN and _ORG, or put influxd 2.7 on PATH"
        )
    port = free_port()
    # Flags and not the environment: a host's own settings of influxd must not reach this one.
    command = [
        program,
        f"--bolt-path={folder / 'influx.bolt'}",
        f"--sqlite-path={folder / 'influx.sqlite'}",
        f"--engine-path={folder / 'engine'}",
        f"--http-bind-address=127.0.0.1:{port}",
        "--reporting-disabled",
        "--log-level=error",
    ]
    with (folder / "influxd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        address = InfluxAddress(f"http://127.0.0.1:{port}", _TOKEN, _ORG)
        _wait(address.url, process, folder / "influxd.log")
        _set_up(address)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"influxd did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.1)


def _set_up(address: InfluxAddress) -> None:
    body = {
        "username": "tailrace",
        "password": "tailrace-test",
        "org": address.org,
        "bucket": _BUCKET,
        "token": address.token,
    }
    request = urllib.request.Request(
        f"{address.url}/api/v2/setup",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201
