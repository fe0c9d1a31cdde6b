"""The site of ``bench_retention``: its settings, its old rows, and what is left of them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

TESTS_DIR = Path(__file__).resolve().parents[1]
KEPT_SHARE = 100
"""One old row in so many is held, so that slices are not the plainest ones."""
_FILL_ROWS = 100_000


def environment_of(directory: Path, url: str) -> dict[str, str]:
    policy = {"bench": {"DROP_AFTER": "7 days", "HOLD": {"kind": "held"}}}
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "PROJECT_DATA_DIR": str(directory),
        "PROJECT_RETENTION": json.dumps(policy),
        "DATABASE_URL": url,
        "TAILRACE_REDIS_URL": "redis://127.0.0.1:1/0",
        "PYTHONPATH": str(TESTS_DIR),
        "TMPDIR": str(directory),
    }


def manage(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, str(TESTS_DIR / "manage.py"), *arguments]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=300)


def fill(engine: str, url: str, directory: Path, rows: int) -> int:
    """Store old rows by the fastest way there is; return how many of them are held."""
    held = -(-rows // KEPT_SHARE)
    if engine == "postgres":
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_POSTGRES_FILL, {"rows": rows, "share": KEPT_SHARE})
            connection.execute("VACUUM ANALYZE tailrace_event")
        return held
    with closing(sqlite3.connect(directory / "shop.sqlite3")) as connection:
        for start in range(0, rows, _FILL_ROWS):
            connection.executemany(_SQLITE_FILL, _sqlite_rows(start, min(start + _FILL_ROWS, rows)))
            connection.commit()
    return held


_POSTGRES_FILL = """
    INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id)
    SELECT gen_random_uuid(), 'bench', now() - interval '60 days' + i * interval '0.5 s',
        CASE WHEN i %% %(share)s = 0 THEN '{"kind": "held"}' ELSE '{"kind": "old"}' END::jsonb,
        jsonb_build_object('n', i, 'duration_ms', i %% 977 / 8.0), ''
    FROM generate_series(0, %(rows)s - 1) AS i
"""
_SQLITE_FILL = (
    "INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id) "
    "VALUES (?, 'bench', ?, ?, ?, '')"
)


def _sqlite_rows(start: int, end: int) -> Iterator[tuple[str, str, str, str]]:
    first = time.time() - 60 * 86_400
    for number in range(start, end):
        at = first + number * 0.5
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06}"
        kind = "held" if number % KEPT_SHARE == 0 else "old"
        fields = f'{{"n": {number}, "duration_ms": {number % 977 / 8.0}}}'
        yield uuid.uuid4().hex, moment, f'{{"kind": "{kind}"}}', fields


def counts(engine: str, url: str, directory: Path) -> dict[str, int]:
    if engine == "postgres":
        import psycopg

        with psycopg.connect(url) as connection:
            query = "SELECT tags->>'kind', count(*) FROM tailrace_event WHERE measurement = 'bench'"
            found = dict(connection.execute(f"{query} GROUP BY 1").fetchall())  # type: ignore[arg-type]
    else:
        with closing(sqlite3.connect(directory / "shop.sqlite3")) as connection:
            query = "SELECT tags->>'kind', count(*) FROM tailrace_event WHERE measurement = 'bench'"
            found = dict(connection.execute(f"{query} GROUP BY 1").fetchall())
    return {"old": found.get("old", 0) + found.get("held", 0), "new": found.get("new", 0)}


@contextmanager
def database(engine: str) -> Iterator[str]:
    """Give an empty database's URL; of SQLite, an empty text."""
    if engine == "sqlite":
        yield ""
        return
    from benchmarks.drain_parts import SERVER_OPTIONS
    from postgres_server import PostgresServer

    server = PostgresServer(options=SERVER_OPTIONS)
    try:
        server.start()
        yield server.create_database("retention")
    finally:
        server.remove()
