"""The fixture itself: a real TimescaleDB, shared by connections in turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from postgres_alias import connect


@pytest.fixture
def url(timescale_database: Callable[[str], str]) -> str:
    return timescale_database("server")


def test_is_a_timescaledb_with_all_features(url: str) -> None:
    with connect(url) as connection:
        row = connection.execute(
            "SELECT extversion, current_setting('timescaledb.license') FROM pg_extension "
            "WHERE extname = 'timescaledb'"
        ).fetchone()
    assert row is not None
    assert row[0].startswith("2.")
    assert row[1] == "timescale"


def test_connections_take_turns_by_transaction(url: str) -> None:
    log: list[str] = []
    with connect(url) as first, connect(url) as second:
        first.execute("CREATE TABLE t (n int)")

        def wait() -> None:
            log.append(f"sees {second.execute('SELECT count(*) FROM t').fetchone()[0]}")

        with first.transaction():
            first.execute("INSERT INTO t VALUES (1)")
            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.2)
            log.append("commits")
        thread.join(10)
        first.execute("DROP TABLE t")
    assert log == ["commits", "sees 1"]


def test_who_leaves_in_a_transaction_leaves_nothing(url: str) -> None:
    leaver = connect(url)
    leaver.execute("BEGIN")
    leaver.execute("CREATE TABLE left_over (n int)")
    leaver.close()
    with connect(url) as connection:
        found = connection.execute("SELECT to_regclass('left_over')").fetchone()
    assert found == (None,)


def test_a_failed_statement_is_over(url: str) -> None:
    with connect(url) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        assert connection.execute("SELECT length(%s)", ("x" * 300_000,)).fetchone() == (300_000,)
