"""A site with a source and a target, each on SQLite or PostgreSQL, and an oracle for both."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from faults.harness import COMMAND_TIMEOUT_SECONDS, TESTS_DIR, Site
from psycopg.types.json import Jsonb

MEASUREMENT = "checkout"
START = datetime(2026, 1, 1, tzinfo=UTC)
ORM, POSTGRES = (
    f"tailrace.backends.{name}"
    for name in ("django_db.DjangoDBBackend", "postgres.PostgresBackend")
)
COLUMNS = "uid, measurement, time, tags, fields, trace_id"
LEASE_SECONDS = 1.0

Row = tuple[Any, ...]


class CopySite(Site):
    """``old`` is on the database ``default``, ``new`` on ``telemetry``."""

    def __init__(
        self, directory: Path, redis_url: str, old: str, new: str, is_dual: bool = False
    ) -> None:
        """Take the databases; an empty URL is the SQLite file that is in ``directory``."""
        super().__init__(directory, redis_url, old)
        self.urls = {"old": old, "new": new}
        self.backends = {
            "old": {"BACKEND": POSTGRES if old else ORM, "OPTIONS": {"ALIAS": "default"}},
            "new": {"BACKEND": POSTGRES if new else ORM, "OPTIONS": {"ALIAS": "telemetry"}},
        }
        if not is_dual:
            self.backends["new"]["MEASUREMENTS"] = ["nothing"]
        self.queue = ""
        self.max_pages = 0

    def environment(self, fault: str = "", **extra: str) -> dict[str, str]:
        ours = {
            "DJANGO_SETTINGS_MODULE": "backfill.settings",
            "TELEMETRY_DATABASE_URL": self.urls["new"],
            "BACKFILL_BACKENDS": json.dumps(self.backends),
            "TAILRACE_BACKFILL_LEASE_SECONDS": str(LEASE_SECONDS),
        }
        if self.max_pages:
            ours["TELEMETRY_MAX_PAGES"] = str(self.max_pages)
        if self.queue:
            ours["BACKFILL_QUEUE"] = self.queue
        return super().environment(fault, **{**ours, **extra})

    def seed(self, rows: Sequence[Row], where: str = "old") -> None:
        """Put events there, past everything of Tailrace's."""
        statement = f"INSERT INTO tailrace_event ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
        if url := self.urls[where]:
            with psycopg.connect(url) as connection, connection.cursor() as cursor:
                cursor.executemany(
                    statement.replace("?", "%s"),
                    [(u, m, t, Jsonb(g), Jsonb(f), i) for u, m, t, g, f, i in rows],
                )
            return
        with closing(self._sqlite(where)) as connection:
            connection.executemany(
                statement,
                [
                    (u.hex, m, f"{t:%Y-%m-%d %H:%M:%S.%f}", json.dumps(g), json.dumps(f), i)
                    for u, m, t, g, f, i in rows
                ],
            )
            connection.commit()

    def empty(self, where: str) -> None:
        """Remove all events there."""
        if url := self.urls[where]:
            with psycopg.connect(url) as connection:
                connection.execute("DELETE FROM tailrace_event")
            return
        with closing(self._sqlite(where)) as connection:
            connection.execute("DELETE FROM tailrace_event")
            connection.commit()

    def events(self, where: str, measurement: str = MEASUREMENT) -> list[Row]:
        """Return what is there, in one form whatever the database, sorted by id."""
        statement = f"SELECT {COLUMNS} FROM tailrace_event WHERE measurement = '{measurement}'"
        if url := self.urls[where]:
            with psycopg.connect(url) as connection:
                found = connection.execute(statement).fetchall()  # type: ignore[arg-type]
            return sorted((u.hex, m, _time(t), _json(g), _json(f), i) for u, m, t, g, f, i in found)
        with closing(self._sqlite(where)) as connection:
            found = connection.execute(statement).fetchall()
        return sorted(
            (u, m, _time(t), _json(json.loads(g)), _json(json.loads(f)), i)
            for u, m, t, g, f, i in found
        )

    def backfill(self, *arguments: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        """Run ``tailrace_backfill`` to its end, whatever that is."""
        return self.manage("tailrace_backfill", *arguments, fault=fault)

    @property
    def copy_arguments(self) -> tuple[str, ...]:
        """A copy of everything from ``old`` to ``new``, in small steps, as the command has it."""
        ends = ("--source", "old", "--target", "new", "--measurement", MEASUREMENT)
        return ("copy", *ends, "--slice-rows", "1000")

    def copy(self, *more: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        """Start :attr:`copy_arguments`, and more."""
        return self.backfill(*self.copy_arguments, *more, fault=fault)

    def copy_all(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Start a copy of everything from ``old`` to ``new``, in steps of the usual size."""
        ends = ("--source", "old", "--target", "new", "--measurement", MEASUREMENT)
        return self.backfill("copy", *ends, *more)

    def rows_at(self, where: str, statement: str) -> list[Row]:
        """Return what a statement gives at one of the ends."""
        if url := self.urls[where]:
            with psycopg.connect(url) as connection:
                return connection.execute(statement).fetchall()  # type: ignore[arg-type]
        with closing(self._sqlite(where)) as connection:
            return connection.execute(statement).fetchall()

    def latest(self) -> dict[str, Any]:
        """Return uid, state, result and log of the newest backfill, and its failed steps."""
        uid, state, result, log = self.rows(
            "SELECT uid, state, result, log FROM tailrace_backfill ORDER BY id DESC LIMIT 1"
        )[0]
        failed = self.rows(
            "SELECT number, error FROM tailrace_backfillstep "
            f"WHERE state = 'failed' AND backfill = '{uid}'"
        )
        found = json.loads(result) if result else {}
        return {"uid": uid, "state": state, "result": found, "log": log, "failures": failed}

    def python(self, script: str) -> str:
        """Run Python where Django is set up; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{script}"],
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _sqlite(self, where: str) -> sqlite3.Connection:
        name = {"old": "shop.sqlite3", "new": "telemetry.sqlite3"}[where]
        return sqlite3.connect(self.directory / name, timeout=30)


def make_rows(count: int, measurement: str = MEASUREMENT, first: int = 0) -> list[Row]:
    """Return events as rows, several of an instant, with values that databases like to change."""
    odd = [None, True, 1.0, 1e22, -0.5, 2**53 + 1, 'a"b\\c \u00e9 \u2028', ""]
    return [
        (
            uuid.uuid5(uuid.NAMESPACE_OID, f"{measurement} {number}"),
            measurement,
            START + timedelta(seconds=number // 3, microseconds=number % 7),
            {"plan": f"p{number % 5}"},
            {"n": number, "odd": odd[number % len(odd)]},
            f"{number:032x}" if number % 2 else "",
        )
        for number in range(first, first + count)
    ]


def _time(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _json(value: Any) -> str:
    numbers = {
        name: int(each) if isinstance(each, float) and each.is_integer() else each
        for name, each in value.items()
    }
    return json.dumps(numbers, sort_keys=True)


__all__ = ["MEASUREMENT", "START", "TESTS_DIR", "CopySite", "make_rows"]
