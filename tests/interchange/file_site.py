"""A site that imports and exports, by the command, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
from backfill.copy_site import CopySite, Row
from faults.harness import TESTS_DIR


class FileSite(CopySite):
    """One database that counts, ``old``, and a folder for files."""

    def __init__(self, directory: Path, old: str = "") -> None:
        """Take the database's URL; empty for a SQLite file."""
        super().__init__(directory, "redis://127.0.0.1:1/0", old, "")
        self.files = directory / "files"
        self.files.mkdir(exist_ok=True)
        self.peer_url = ""
        self.is_resident = True
        """Whether commands share a process; else each has its own, as where people type them."""
        self._host: subprocess.Popen[str] | None = None
        self._host_environment: dict[str, str] = {}

    def environment(self, fault: str = "", **extra: str) -> dict[str, str]:
        ours = {
            "DJANGO_SETTINGS_MODULE": "interchange.settings",
            "EXCHANGE_DIRS": str(self.files),
        }
        if self.peer_url:
            ours["PEER_DATABASE_URL"] = self.peer_url
        return super().environment(fault, **{**ours, **extra})

    def manage(self, *arguments: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        if fault or not self.is_resident:
            return super().manage(*arguments, fault=fault)
        return self._ask({"argv": arguments})

    def python(self, script: str) -> str:
        done = self._ask({"script": script})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop_all(self) -> None:
        if self._host is not None:
            self._host.communicate(timeout=15)
            self._host = None
        super().stop_all()

    def _ask(self, wanted: dict[str, object]) -> subprocess.CompletedProcess[str]:
        """Have the resident process do something; start it, and again if settings changed."""
        environment = self.environment()
        if self._host is not None and environment != self._host_environment:
            self._host.communicate(timeout=15)
            self._host = None
        if self._host is None:
            self._host_environment = environment
            self._host = subprocess.Popen(
                [sys.executable, str(TESTS_DIR / "interchange" / "command_host.py")],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        self._host.stdin.write(json.dumps(wanted) + "\n")
        self._host.stdin.flush()
        line = self._host.stdout.readline()
        assert line, f"the process ended with {self._host.wait(15)} in the middle of {wanted}"
        told = json.loads(line)
        return subprocess.CompletedProcess([], told["code"], told["out"], told["err"])

    def run(self, kind: str, *arguments: str) -> dict[str, object]:
        """Run a backfill that must succeed; return its result."""
        done = self.backfill("--json", kind, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["state"] == "done", told
        result: dict[str, object] = told["result"]
        return result

    def everything(self) -> list[Row]:
        """Return all events, of any measurement."""
        return [row for name in self.measurements() for row in self.events("old", name)]

    def measurements(self) -> list[str]:
        """Return which measurements there are."""
        statement = "SELECT DISTINCT measurement FROM tailrace_event ORDER BY 1"
        if url := self.urls["old"]:
            with psycopg.connect(url) as connection:
                return [name for (name,) in connection.execute(statement)]
        with closing(self._sqlite("old")) as connection:
            return [name for (name,) in connection.execute(statement)]
