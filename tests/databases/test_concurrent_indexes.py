"""``CREATE INDEX CONCURRENTLY`` through ``migrate_all``: built, cut off, and mended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from databases.conftest import Host

QUIET = ("--skip-makemigrations", "--non-interactive")
BUILDING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'"
TWO_WAYS = [("0002_djangos_operation", "parcel_weight"), ("0003_plain_sql", "parcel_height")]


@pytest.fixture
def postgres_host(host: Host, postgres_database: Callable[[str], str]) -> Host:
    """The host on PostgreSQL, with the app whose indexes are built concurrently."""
    host.env["DATABASE__URL"] = postgres_database("concurrent")
    host.env["HOST_EXTRA_APPS"] = "databases.host.concurrent.apps.Config"
    return host


def connect(host: Host) -> psycopg.Connection:
    """Connect behind Django's back."""
    url = host.env["DATABASE__URL"].replace("postgres://", "postgresql://", 1)
    return psycopg.connect(url, autocommit=True)


def indexes(host: Host) -> dict[str, bool]:
    """Return the indexes of the table by name, and whether each is valid."""
    with connect(host) as connection:
        found = connection.execute(
            "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indrelid = 'concurrent_parcel'::regclass AND NOT i.indisprimary"
        )
        return dict(found.fetchall())


@contextmanager
def writer_in_the_way(host: Host) -> Iterator[None]:
    """Hold a transaction open that has written to the table: a build must wait for it."""
    with connect(host) as connection, connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO concurrent_parcel (weight, height) VALUES (1, 1)")
        yield


def wait_for_build(host: Host, run: subprocess.Popen[str]) -> int:
    """Wait until an index is being built, and return the server process that builds it."""
    deadline = time.monotonic() + 15
    with connect(host) as connection:
        while True:
            found = connection.execute(f"{BUILDING} AND state = 'active'").fetchone()
            if found is not None and len(indexes(host)):
                return int(found[0])
            assert run.poll() is None, run.communicate()[0]
            assert time.monotonic() < deadline, "no index was ever built"
            time.sleep(0.02)


def cut_off(host: Host, command: tuple[str, ...], index: str) -> None:
    """Start a command, and kill it and its server process in the middle of the build."""
    with writer_in_the_way(host):
        run = host.start(*command)
        builder = wait_for_build(host, run)
        deadline = time.monotonic() + 10
        while index not in indexes(host):
            assert time.monotonic() < deadline, "the build never began"
            time.sleep(0.02)
        run.kill()
        run.communicate(timeout=10)
        with connect(host) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [builder])
    assert indexes(host)[index] is False


def test_c_create_index_concurrently_needs_atomic_false(postgres_host: Host) -> None:
    """By Django's operation and by plain SQL: both are built, valid, and recorded."""
    output = postgres_host.ok("migrate_all", *QUIET)
    assert "concurrent 0002_djangos_operation, in steps" in output
    assert indexes(postgres_host) == {"parcel_weight": True, "parcel_height": True}
    postgres_host.ok("migrate_all", "--check")


@pytest.mark.faults
@pytest.mark.parametrize(("migration", "index"), TWO_WAYS, ids=["operation", "sql"])
def test_c_an_index_whose_build_was_cut_off_is_dropped_and_built_again(
    postgres_host: Host, migration: str, index: str
) -> None:
    """Our journal knows of the cut, so that the next plain run mends it."""
    before = "0001_initial" if migration.startswith("0002") else "0002_djangos_operation"
    postgres_host.ok("migrate", "concurrent", before, "-v", "0")
    cut_off(postgres_host, ("migrate_all", *QUIET), index)
    checked = postgres_host.run("migrate_all", "--check", "--skip-makemigrations")
    assert checked.returncode == 1
    assert f"concurrent.{migration}: CUT OFF: 0 of 1 operations done" in checked.stdout
    postgres_host.ok("migrate_all", *QUIET)
    assert indexes(postgres_host) == {"parcel_weight": True, "parcel_height": True}
    postgres_host.ok("migrate_all", "--check", "--skip-makemigrations")


@pytest.mark.faults
@pytest.mark.parametrize(("migration", "index"), TWO_WAYS, ids=["operation", "sql"])
def test_c_repair_finds_and_drops_an_invalid_index_that_djangos_migrate_left(
    postgres_host: Host, migration: str, index: str
) -> None:
    """There is no journal then; the catalogue of the server tells."""
    before = "0001_initial" if migration.startswith("0002") else "0002_djangos_operation"
    postgres_host.ok("migrate", "concurrent", before, "-v", "0")
    cut_off(postgres_host, ("migrate", "concurrent", migration, "-v", "0"), index)
    postgres_host.ok("migrate_all", "--repair", *QUIET)
    assert indexes(postgres_host) == {"parcel_weight": True, "parcel_height": True}
    postgres_host.ok("migrate_all", "--check", "--skip-makemigrations")


@pytest.mark.faults
def test_c_a_run_that_waits_for_the_lock_is_not_in_the_way_of_a_build(
    postgres_host: Host,
) -> None:
    """A build waits for all older transactions: a waiter that held one would wait for ever."""
    postgres_host.ok("migrate", "concurrent", "0001_initial", "-v", "0")
    with writer_in_the_way(postgres_host):
        first = postgres_host.start("migrate_all", *QUIET)
        wait_for_build(postgres_host, first)
        second = postgres_host.start("migrate_all", *QUIET)
        assert second.stdout is not None
        for line in second.stdout:
            if "another run is migrating this database" in line:
                break
        else:
            pytest.fail("the second run did not wait")
    outputs = [run.communicate(timeout=15)[0] for run in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert indexes(postgres_host) == {"parcel_weight": True, "parcel_height": True}
