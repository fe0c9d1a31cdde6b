"""A site that imports and exports, by the command, in processes of its own."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import psycopg
from backfill.copy_site import CopySite, Row


class FileSite(CopySite):
    """One database that counts, ``old``, and a folder for files."""

    def __init__(self, directory: Path, old: str = "") -> None:
        """Take the database's URL; empty for a SQLite file."""
        super().__init__(directory, "redis://127.0.0.1:1/0", old, "")
        self.files = directory / "files"
        self.files.mkdir(exist_ok=True)
        self.peer_url = ""

    def environment(self, fault: str = "", **extra: str) -> dict[str, str]:
        ours = {
            "DJANGO_SETTINGS_MODULE": "interchange.settings",
            "EXCHANGE_DIRS": str(self.files),
        }
        if self.peer_url:
            ours["PEER_DATABASE_URL"] = self.peer_url
        return super().environment(fault, **{**ours, **extra})

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
