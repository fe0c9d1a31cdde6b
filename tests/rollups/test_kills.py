"""SIGKILL at each named point of what rollups do: another process goes on, and all is right."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from faults.harness import Site
from postgres_server import PostgresServer
from psycopg import sql

pytestmark = pytest.mark.faults

HOUR_US = 3_600 * 1_000_000
WIDTHS_US = (HOUR_US, 24 * HOUR_US)
POINTS = [
    "late_noted",
    "refresh_threshold",
    "refresh_threshold_moved",
    "refresh_log_copied",
    "refresh_planned",
    "refresh_computed",
    "refresh_deleted",
    "refresh_before_commit",
    "refresh_committed",
    "orphans_removed",
]
POINTS_ON_POSTGRES = ["late_noted", "refresh_threshold", "refresh_log_copied", "refresh_committed"]
"""Copying a database takes seconds there."""
EVENTS = 96
LATE_EVENTS = 3


class Databases:
    """Copies of a prepared database, and processes that work on them."""

    def __init__(self, directory: Path, url: str = "", server: PostgresServer | None = None):
        self._directory = directory
        self._server = server
        self._site = Site(directory, "redis://127.0.0.1:1/0", url)
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "rollups.worker"],
            env=self._site.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._template = url.rpartition("/")[2] or str(directory / "template.sqlite3")
        assert self.run(self._template, "prepare") == 0

    def run(self, database: str, do: str, fault: str = "") -> int:
        """Have a new process do something, and return how it ended."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        order = {"database": database, "do": do, "fault": fault}
        print(json.dumps(order), file=self._worker.stdin, flush=True)
        return int(self._worker.stdout.readline())

    def copy(self) -> str:
        """Return the name of a new copy of the prepared database."""
        name = f"kill_{uuid.uuid4().hex[:8]}"
        if self._server is None:
            path = self._directory / f"{name}.sqlite3"
            with closing(sqlite3.connect(self._template)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copy(self._template, path)
            return str(path)
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self._server.connect() as connection:
            names = (sql.Identifier(name), sql.Identifier(self._template))
            connection.execute(statement.format(*names))
        return name

    def rows(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """Return what a query gives."""
        if self._server is None:
            with closing(sqlite3.connect(database)) as connection:
                return connection.execute(query).fetchall()
        self._site.database_url = self._server.url(database)
        return self._site.rows(query)

    def close(self) -> None:
        """End the process that starts the others."""
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        assert self._worker.wait(30) == 0
        assert self._worker.stdout is not None
        self._worker.stdout.close()


@pytest.fixture(scope="module")
def in_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    made = Databases(tmp_path_factory.mktemp("kills"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def in_postgres(
    tmp_path_factory: pytest.TempPathFactory, postgres_primary: PostgresServer
) -> Iterator[Databases]:
    url = postgres_primary.create_database(f"kills_{uuid.uuid4().hex[:8]}")
    made = Databases(tmp_path_factory.mktemp("kills"), url, postgres_primary)
    yield made
    made.close()


def _time_us(found: Any) -> int:
    at = datetime.fromisoformat(found) if isinstance(found, str) else found
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * 1_000_000


def _grouped(databases: Databases, database: str, width_us: int) -> dict[int, tuple[int, int]]:
    """Return count and sum of the rows, by bucket."""
    found: dict[int, tuple[int, int]] = {}
    for at, fields in databases.rows(database, "SELECT time, fields FROM tailrace_event"):
        value = (json.loads(fields) if isinstance(fields, str) else fields)["v"]
        bucket = _time_us(at) // width_us * width_us
        count, total = found.get(bucket, (0, 0))
        found[bucket] = (count + 1, total + value)
    return found


def _levels(databases: Databases, database: str) -> dict[int, int]:
    query = "SELECT level, id FROM tailrace_rolluplevel WHERE rollup = 'kept'"
    return dict(databases.rows(database, query))


def _wrong(databases: Databases, database: str, level_id: int) -> list[tuple[int, int]]:
    """Return what no answer may be made of: the log of a level and of its source."""
    query = (
        "SELECT low_us, high_us FROM tailrace_rollupinvalidation "
        f"WHERE owner = 'level:{level_id}' OR owner LIKE 'source:%'"
    )
    return databases.rows(database, query)


def _assert_right(databases: Databases, database: str) -> None:
    """Each bucket that answers may be made of is what the rows of it come to."""
    for level, level_id in _levels(databases, database).items():
        width_us, wrong = WIDTHS_US[level], _wrong(databases, database, level_id)

        def counts(bucket: int, width_us: int = width_us, wrong: Any = tuple(wrong)) -> bool:
            return not any(low < bucket + width_us and bucket < high for low, high in wrong)

        query = (
            "SELECT bucket_us, count, whole_sum FROM tailrace_rollupbucket "
            f"WHERE level_id = {level_id} AND field = 'v'"
        )
        rows = databases.rows(database, query)
        kept = {bucket: (count, int(total)) for bucket, count, total in rows if counts(bucket)}
        grouped = _grouped(databases, database, width_us).items()
        assert kept == {bucket: each for bucket, each in grouped if counts(bucket)}


def _assert_complete(databases: Databases, database: str) -> None:
    """Nothing waits that has passed, all events are there once, and no bucket is left over."""
    _assert_right(databases, database)
    (stored,) = databases.rows(database, "SELECT count(*) FROM tailrace_event")
    assert stored[0] == EVENTS + LATE_EVENTS
    newest = max(_grouped(databases, database, HOUR_US))
    levels = _levels(databases, database)
    assert levels.keys() == {0, 1}
    for level_id in levels.values():
        waiting = _wrong(databases, database, level_id)
        assert all(low > newest for low, _ in waiting), waiting
    query = "SELECT DISTINCT level_id FROM tailrace_rollupbucket"
    assert {level_id for (level_id,) in databases.rows(database, query)} == set(levels.values())


def _kill(databases: Databases, point: str, passes: int) -> None:
    database = databases.copy()
    ended = databases.run(database, "work", f"{point}=kill:{passes}")
    if not passes:
        assert ended == -signal.SIGKILL, f"{point} was never reached"
    _assert_right(databases, database)
    assert databases.run(database, "work") == 0
    _assert_complete(databases, database)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("passes", [0, 1])
def test_killed_at(in_sqlite: Databases, point: str, passes: int) -> None:
    _kill(in_sqlite, point, passes)


@pytest.mark.parametrize("point", POINTS_ON_POSTGRES)
def test_killed_on_postgres_at(in_postgres: Databases, point: str) -> None:
    _kill(in_postgres, point, 0)
