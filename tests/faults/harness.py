"""A small site for fault tests: real processes, and an oracle that knows what was sent.

The oracle gives each event a number of its own. Whatever happens in between, at the end each
number is in the table exactly once, or the ledger says where it went.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from tailrace.pipeline.buffer import Buffer
from tailrace.pipeline.config import Config
from tailrace.pipeline.flusher import Flusher

TESTS_DIR = Path(__file__).resolve().parent.parent
COMMAND_TIMEOUT_SECONDS = 120
MEASUREMENT = "fault.test"


class Sender:
    """A web process's pipeline, driven by hand and in this process."""

    def __init__(self, redis_url: str, spool: Path, **settings: Any) -> None:
        self.config = Config(redis_url=redis_url, spool_dir=str(spool), **settings)
        self.buffer = Buffer(self.config)
        self.flusher = Flusher(self.config, self.buffer)

    def send(self, numbers: Sequence[int], measurement: str = MEASUREMENT) -> bool:
        """Record an event for each number and flush; return whether all is in Redis."""
        for number in numbers:
            event = (measurement, time.time_ns(), {"kind": "x"}, {"n": number}, None)
            self.buffer.append(event)
        return self.flusher.flush(timeout_seconds=10)

    def close(self) -> None:
        self.flusher.close(5)


class Site:
    """The test project with a database and a Redis of its own, as real processes."""

    def __init__(self, directory: Path, redis_url: str, database_url: str = "") -> None:
        self.directory = directory
        self.redis_url = redis_url
        self.database_url = database_url
        self.spool = directory / "spool"
        self.sender = Sender(redis_url, self.spool)
        self.processes: list[subprocess.Popen[bytes]] = []

    def environment(self, fault: str = "", **extra: str) -> dict[str, str]:
        ours = {name: text for name, text in os.environ.items() if not name.endswith("_URL")}
        return {
            **ours,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PROJECT_DATA_DIR": str(self.directory),
            "DATABASE_URL": self.database_url,
            "TAILRACE_REDIS_URL": self.redis_url,
            "CELERY_BROKER_URL": self.redis_url.rsplit("/", 1)[0] + "/1",
            "TAILRACE_FAULT": fault,
            "TMPDIR": str(self.directory),
            "PYTHONPATH": str(TESTS_DIR),
            "PYTHONUNBUFFERED": "1",
            **extra,
        }

    def manage(self, *arguments: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        """Run a management command to its end, whatever that is."""
        return subprocess.run(
            [sys.executable, str(TESTS_DIR / "manage.py"), *arguments],
            cwd=self.directory,
            env=self.environment(fault),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )

    def migrate(self) -> None:
        done = self.manage("migrate", "--verbosity=0")
        assert done.returncode == 0, done.stderr

    def drain(self, fault: str = "") -> int:
        """Run ``tailrace_drain --until-empty``; return its exit status."""
        done = self.manage("tailrace_drain", "--until-empty", "--timeout=100", fault=fault)
        if done.returncode not in (0, -signal.SIGKILL):
            raise AssertionError(done.stdout + done.stderr)
        return done.returncode

    def start(self, *command: str, module: bool = True, **extra: str) -> subprocess.Popen[bytes]:
        """Start ``python -m command``; it is ended by :meth:`stop_all`."""
        name = command[0].strip("-")
        log = (self.directory / f"{name}-{len(self.processes)}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, *(["-m"] if module else []), *command],
                cwd=self.directory,
                env=self.environment(**extra),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def stop_all(self) -> None:
        self.sender.close()
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    # --- the oracle

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        if self.database_url:
            with psycopg.connect(self.database_url) as connection:
                return connection.execute(statement).fetchall()  # type: ignore[arg-type]
        path = self.directory / "shop.sqlite3"
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            return connection.execute(statement).fetchall()

    def execute(self, statement: str) -> None:
        """Change the database behind Tailrace's back."""
        if self.database_url:
            with psycopg.connect(self.database_url) as connection:
                connection.execute(statement)  # type: ignore[arg-type]
            return
        with closing(sqlite3.connect(self.directory / "shop.sqlite3")) as connection:
            connection.execute(statement)
            connection.commit()

    def stored(self, measurement: str = MEASUREMENT) -> Counter[int]:
        """Return how often each number is in the table."""
        rows = self.rows("SELECT measurement, fields FROM tailrace_event")
        numbers = (
            (fields if isinstance(fields, dict) else json.loads(fields)).get("n")
            for name, fields in rows
            if name == measurement
        )
        return Counter(numbers)

    def status(self) -> dict[str, Any]:
        """Return what ``tailrace_status`` reports, and insist that all its books balance."""
        done = self.manage("tailrace_status", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)[0]
        return report

    def assert_balanced(self, measurement: str = MEASUREMENT, **expected: Any) -> None:
        """Compare the ledger of a measurement; what is not named must be zero."""
        nothing = {"captured": 0, "stored": 0, "sampled_out": 0, "dead_lettered": 0}
        ledger = self.status()["ledger"].get(measurement)
        wanted = {**nothing, "dropped": {}, "in_flight": 0, **expected}
        assert ledger == wanted, f"{ledger} is not {wanted}"

    def assert_each_once(self, numbers: Sequence[int]) -> None:
        stored = self.stored()
        doubled = [number for number, times in stored.items() if times != 1]
        assert not doubled, f"stored more than once: {doubled[:10]} of {len(doubled)}"
        missing = set(numbers) - stored.keys()
        assert not missing, f"lost: {sorted(missing)[:10]} of {len(missing)}"
        assert len(stored) == len(numbers)
