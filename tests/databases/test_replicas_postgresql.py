"""A real primary and a real streaming replica, under load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from postgres_server import PostgresServer

from databases.conftest import Host

DATABASE = "host_under_load"


@pytest.fixture(scope="module")
def loaded_database(
    postgres_primary: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A migrated database with twenty orders, on the primary."""
    url = postgres_primary.create_database(DATABASE)
    host = Host(tmp_path_factory.mktemp("load"), {"DATABASE__URL": url})
    host.ok("migrate", "shop", "-v", "0")
    with postgres_primary.connect(DATABASE) as connection:
        connection.execute(
            "INSERT INTO shop_order (number, note) SELECT n, '' FROM generate_series(1, 20) n"
        )
    yield url
    with postgres_primary.connect() as connection:
        connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def host_with_replica(
    host: Host,
    loaded_database: str,
    postgres_primary: PostgresServer,
    postgres_replica: PostgresServer,
) -> Host:
    """The host project, with the replica in step."""
    host.env["DATABASE__URL"] = loaded_database
    host.env["DATABASE__URL_REPLICA"] = postgres_replica.url(DATABASE)
    wait_for_sync(postgres_primary, postgres_replica)
    return host


def wait_for_sync(primary: PostgresServer, replica: PostgresServer) -> None:
    """Wait until the replica has replayed what the primary has written."""
    with primary.connect() as connection:
        (position,) = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    deadline = time.monotonic() + 20
    with replica.connect() as connection:
        while time.monotonic() < deadline:
            (is_there,) = connection.execute(
                "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]
            ).fetchone()
            if is_there:
                return
            time.sleep(0.05)
    raise AssertionError("the replica does not follow")


def run_load(host: Host, kind: str, seconds: float, act: Callable[[], Any]) -> list[dict[str, Any]]:
    """Run readers or writers, act while they run, and return their progress lines."""
    load = subprocess.Popen(
        [sys.executable, "-m", "databases.host.load", kind, str(seconds), "6"],
        env=host.environ(),
        cwd=host.data_dir,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = [json.loads(load.stdout.readline())]
    act()
    rest, _ = load.communicate(timeout=60)
    for line in rest.splitlines():
        if line.startswith("{"):
            lines.append(json.loads(line))
    assert load.returncode == 0, rest
    print(lines[-1])
    return lines


MODES = {
    "a connection a request": {},
    "kept connections": {"HOST_CONN_MAX_AGE": "60"},
    "pool": {"HOST_POOL": '{"min_size": 1, "max_size": 8, "timeout": 1}'},
}


@pytest.mark.faults
@pytest.mark.parametrize(
    ("how", "mode"),
    [
        ("stop", "a connection a request"),
        ("stop", "kept connections"),
        ("kill", "kept connections"),
        ("kill", "pool"),
    ],
)
def test_the_replica_is_stopped_under_load_and_no_read_fails(
    host_with_replica: Host, postgres_replica: PostgresServer, mode: str, how: str
) -> None:
    """Reads go on on the primary, and come back to the replica when it is back."""
    host_with_replica.env.update(MODES[mode])
    marks: dict[str, float] = {}

    def act() -> None:
        time.sleep(0.7)
        getattr(postgres_replica, how)()
        marks["down"] = time.monotonic()
        time.sleep(0.8)
        postgres_replica.start()

    lines = run_load(host_with_replica, "read", 5.0, act)
    last = lines[-1]
    assert last["failed"] == 0, last["errors"]
    assert last.get("wrong", 0) == 0
    assert last["hanging"] == 0
    on_replica = [line.get("read on replica", 0) for line in lines]
    on_primary = [line.get("read on default", 0) for line in lines]
    assert on_replica[0] > 0, "the replica was read before it was stopped"
    pauses = [later == earlier for earlier, later in pairwise(on_replica)]
    assert any(pauses), "there was a time without reads on the replica"
    assert not pauses[-3], "and it is read again at the end"
    assert on_primary[-1] > on_primary[0]


@pytest.mark.faults
def test_the_replica_lags_and_reads_after_own_writes_are_never_stale(
    host_with_replica: Host, postgres_primary: PostgresServer, postgres_replica: PostgresServer
) -> None:
    """ORM, ``using()``, raw SQL and a transaction: each request sees what it wrote."""
    host_with_replica.env["HOST_CONN_MAX_AGE"] = "60"
    host_with_replica.env["HOST_MAX_LAG_SECONDS"] = "60"

    def act() -> None:
        with postgres_replica.connect() as connection:
            connection.execute("SELECT pg_wal_replay_pause()")

    lines = run_load(host_with_replica, "write", 3.0, act)
    last = lines[-1]
    assert last["failed"] == 0, last["errors"]
    assert last["writes"] > 50
    assert last.get("stale", 0) == 0
    # The replica was in use all the time, so staleness was possible.
    assert last["read on replica"] > lines[len(lines) // 2]["read on replica"]
    with postgres_replica.connect(DATABASE) as connection:
        (replicated,) = connection.execute("SELECT count(*) FROM shop_order").fetchone()
    with postgres_primary.connect(DATABASE) as connection:
        (written,) = connection.execute("SELECT count(*) FROM shop_order").fetchone()
    assert replicated < written, "the replica did lag"


@pytest.mark.faults
def test_c_replica_that_lags_too_far_is_skipped_until_it_has_caught_up(
    host_with_replica: Host, postgres_replica: PostgresServer
) -> None:
    """With one second allowed, reads leave a paused replica, and return after it resumes."""
    host_with_replica.env["HOST_CONN_MAX_AGE"] = "60"
    host_with_replica.env["HOST_MAX_LAG_SECONDS"] = "1"
    paused = []

    def act() -> None:
        with postgres_replica.connect() as connection:
            connection.execute("SELECT pg_wal_replay_pause()")
            time.sleep(3.2)
            connection.execute("SELECT pg_wal_replay_resume()")
        paused.append(True)

    lines = run_load(host_with_replica, "write", 6.5, act)
    assert lines[-1]["failed"] == 0, lines[-1]["errors"]
    on_replica = [line.get("read on replica", 0) for line in lines]
    still = [later == earlier for earlier, later in pairwise(on_replica)]
    assert sum(still) >= 3, f"a second or more without reads on the replica: {on_replica}"
    assert on_replica[-2] > on_replica[still.index(True)], "and it is read again at the end"
