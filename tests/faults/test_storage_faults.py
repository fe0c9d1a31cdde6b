"""The storage refuses, is locked, goes away; entries are broken; drains compete."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from faults.harness import MEASUREMENT, Site
from postgres_server import PostgresServer
from servers import RedisServer

pytestmark = pytest.mark.faults

_REFUSE = {
    "sqlite": [
        "CREATE TRIGGER refuse BEFORE INSERT ON tailrace_event "
        "WHEN json_extract(NEW.fields, '$.n') < 0 "
        "BEGIN SELECT RAISE(ABORT, 'this row is poison'); END"
    ],
    "postgres": [
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN "
        "IF (NEW.fields->>'n')::int < 0 THEN RAISE EXCEPTION 'this row is poison'; END IF; "
        "RETURN NEW; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER refuse BEFORE INSERT ON tailrace_event "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
}


def _refuse_poison(site: Site) -> None:
    for statement in _REFUSE["postgres" if site.database_url else "sqlite"]:
        site.execute(statement)


@pytest.mark.parametrize("poison", [1, 10, 10_000])
def test_exactly_the_poison_becomes_dead_letters(site: Site, poison: int, seed: int) -> None:
    _refuse_poison(site)
    bad = set(random.Random(seed).sample(range(1, 10_001), poison))
    site.sender.send([-n if n in bad else n for n in range(1, 10_001)])
    site.drain()
    site.assert_each_once([n for n in range(1, 10_001) if n not in bad])
    letters = site.rows("SELECT reason, payload FROM tailrace_deadletter")
    assert len(letters) == poison
    assert all("this row is poison" in reason for reason, _ in letters)
    site.assert_balanced(captured=10_000, stored=10_000 - poison, dead_lettered=poison)


def test_a_frame_cut_short_is_one_dead_letter_and_costs_nothing_else(
    site: Site, own_redis_server: RedisServer
) -> None:
    site.drain()
    site.sender.send(range(10))
    with own_redis_server.client() as client:
        key = next(k for k in client.scan_iter("tailrace:*:stream") if client.xlen(k))
        [(entry_id, item)] = client.xrange(key)
        frame = item[b"f"]
        client.delete(key)
        client.xadd(key, {"f": frame[:-20]}, id=entry_id)
    site.sender.send(range(10, 30))
    site.drain()
    site.assert_each_once(range(10, 30))
    site.assert_balanced(captured=30, stored=20, dead_lettered=10)
    [(reason, events)] = site.rows("SELECT reason, events FROM tailrace_deadletter")
    assert "cut short" in reason
    assert events == 10


def test_garbage_in_the_stream_is_parked(
    sqlite_site: Site, own_redis_server: RedisServer, seed: int
) -> None:
    sqlite_site.sender.send(range(10))
    with own_redis_server.client() as client:
        key = next(k for k in client.scan_iter("tailrace:*:stream"))
        client.xadd(key, {"f": random.Random(seed).randbytes(5_000)})
        client.xadd(key, {"other": b"no frame at all"})
        client.xadd(key, {"f": b"TR\x63\x01" + bytes(20)})
    sqlite_site.sender.send(range(10, 20))
    sqlite_site.drain()
    sqlite_site.assert_each_once(range(20))
    sqlite_site.assert_balanced(captured=20, stored=20)
    reasons = [row[0] for row in sqlite_site.rows("SELECT reason FROM tailrace_deadletter")]
    assert len(reasons) == 3
    assert any("version 99" in reason for reason in reasons)


def test_many_drainers_without_a_lease_store_each_event_once(site: Site) -> None:
    """Two workers, three beats, every tick twice: what keeps them apart is the checkpoint."""
    numbers = range(30_000)
    for start in range(0, 30_000, 5_000):
        site.sender.send(numbers[start : start + 5_000])
    script = (
        "import contextlib, django; django.setup()\n"
        "from tailrace.pipeline.stream import Stream\n"
        "from tailrace.pipeline.runtime import runtime\n"
        "from tailrace.pipeline.errors import TransientBackendError\n"
        "Stream.lease = lambda *a: contextlib.nullcontext(True)\n"
        "for _ in range(50):\n"
        "    for shard in runtime().shards:\n"
        "        with contextlib.suppress(TransientBackendError):\n"
        "            runtime().drain('default', shard)\n"
    )
    drainers = [site.start("-c", script, module=False) for _ in range(4)]
    for drainer in drainers:
        assert drainer.wait(120) == 0
    site.drain()
    site.assert_each_once(numbers)
    site.assert_balanced(captured=30_000, stored=30_000)


def test_two_workers_and_three_beats_store_each_event_once(site: Site) -> None:
    celery = ("celery", "-A", "project.celery")
    for _ in range(2):
        site.start(*celery, "worker", "--concurrency=2", "--loglevel=WARNING")
    for number in range(3):
        schedule = f"--schedule={site.directory / f'beat-{number}'}"
        site.start(*celery, "beat", "--pidfile=", schedule)
    sent = 0
    end = time.monotonic() + 12
    while time.monotonic() < end:
        site.sender.send(range(sent, sent + 700))
        sent += 700
        time.sleep(0.2)
    _wait_until(lambda: len(site.stored()) == sent, seconds=60)
    site.assert_each_once(range(sent))
    site.assert_balanced(captured=sent, stored=sent)


def test_every_tick_delivered_twice_changes_nothing(site: Site) -> None:
    site.start("celery", "-A", "project.celery", "worker", "--concurrency=4", "--loglevel=WARNING")
    numbers = range(5_000)
    site.sender.send(numbers)
    script = (
        "import django; django.setup()\n"
        "import project.celery\n"
        "from tailrace.pipeline.tasks import drain, tick\n"
        "for _ in range(2):\n"
        "    tick.delay()\n"
        "    for shard in range(4):\n"
        "        drain.delay('default', shard); drain.delay('default', shard)\n"
    )
    subprocess.run([sys.executable, "-c", script], env=site.environment(), check=True, timeout=60)
    _wait_until(lambda: len(site.stored()) == len(numbers), seconds=60)
    time.sleep(1)  # let the copies of the ticks have their turn
    site.assert_each_once(numbers)
    site.assert_balanced(captured=5_000, stored=5_000)


def test_sqlite_locked_by_another_writer(sqlite_site: Site) -> None:
    sqlite_site.sender.send(range(1_000))
    path = sqlite_site.directory / "shop.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = sqlite_site.manage("tailrace_drain", "--until-empty")
        assert done.returncode == 1
        assert "database is locked" in done.stderr
        assert "Nothing is lost" in done.stderr
        other.execute("COMMIT")
    sqlite_site.drain()
    sqlite_site.assert_each_once(range(1_000))
    sqlite_site.assert_balanced(captured=1_000, stored=1_000)


def test_a_worker_outlives_a_backend_that_is_away(
    tmp_path_factory: pytest.TempPathFactory, own_redis_server: RedisServer
) -> None:
    server = PostgresServer()
    server.start()
    site = Site(
        tmp_path_factory.mktemp("away"),
        own_redis_server.url(),
        server.create_database("away"),
    )
    try:
        site.migrate()
        site.start("celery", "-A", "project.celery", "worker", "-B", "--concurrency=2")
        site.sender.send(range(1_000))
        _wait_until(lambda: len(site.stored()) == 1_000, seconds=40)
        server.kill()
        site.sender.send(range(1_000, 4_000))
        time.sleep(3)
        server.start()
        _wait_until(lambda: len(site.stored()) == 4_000, seconds=60)
        site.assert_each_once(range(4_000))
        site.assert_balanced(captured=4_000, stored=4_000)
    finally:
        site.stop_all()
        server.remove()


def test_a_missing_table_stops_the_drain_and_says_what_to_run(
    sqlite_site: Site,
) -> None:
    sqlite_site.execute("ALTER TABLE tailrace_event RENAME TO gone")
    sqlite_site.sender.send(range(100))
    done = sqlite_site.manage("tailrace_drain")
    assert done.returncode == 1
    assert "manage.py migrate tailrace --database=default" in done.stderr
    sqlite_site.execute("ALTER TABLE gone RENAME TO tailrace_event")
    sqlite_site.drain()
    sqlite_site.assert_balanced(MEASUREMENT, captured=100, stored=100)


def _wait_until(is_true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.5)
