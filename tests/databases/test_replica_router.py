"""``ReplicaRouter`` by itself: weights, threads, atomic, own writes, replicas that are away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started
from django.db import OperationalError, connections, router, transaction

from tailrace.django_integration.routers import (
    ReplicaRouter,
    forget_writes,
    pins,
    read_your_writes,
)

Make = Callable[..., Any]


@pytest.fixture
def order(make_aliases: Make, make_model: Make) -> Any:
    """A model on ``default``, with two replicas."""
    make_aliases("replica", "replica_2")
    return make_model("shop", "Order")


def picks(model: Any, times: int) -> Counter[str]:
    """Count where reads go."""
    return Counter(router.db_for_read(model) for _ in range(times))


def test_d_replica_router_80_percent_of_reads_to_the_replica(order: Any, use_routers: Make) -> None:
    """``weights={"replica": 80, "default": 20}``, exactly, and spread evenly."""
    use_routers(ReplicaRouter(weights={"replica": 80, "default": 20}))
    assert picks(order, 1000) == {"replica": 800, "default": 200}
    some = [router.db_for_read(order) for _ in range(10)]
    assert "default" in some[:5]
    assert "default" in some[5:]


def test_c_load_balanced_replicas_take_turns(order: Any, use_routers: Make) -> None:
    """Two replicas of one weight alternate; a weight of zero takes one out."""
    use_routers(ReplicaRouter(weights={"replica": 1, "replica_2": 1}))
    first, second, third = (router.db_for_read(order) for _ in range(3))
    assert first == third != second
    use_routers(ReplicaRouter(weights={"replica": 1, "replica_2": 0}))
    assert picks(order, 10) == {"replica": 10}


def test_c_round_robin_is_thread_safe(order: Any, use_routers: Make) -> None:
    """Eight threads share the turns out to the last one."""
    installed = ReplicaRouter(weights={"replica": 3, "replica_2": 1})
    use_routers(installed)
    router.db_for_read(order)  # Whoever comes first asks whether the replicas are up.
    router.db_for_read(order)
    pool = installed.pools["default"]
    found: Counter[str] = Counter()
    lock = threading.Lock()

    def read() -> None:
        mine = Counter(pool._next_turn(pool.weights) for _ in range(500))
        with lock:
            found.update(mine)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"replica": 3000, "replica_2": 1000}


def test_c_reads_stay_on_the_primary_inside_atomic(order: Any, use_routers: Make) -> None:
    """What a transaction has locked or changed is only there."""
    use_routers(ReplicaRouter(weights={"replica": 1}))
    assert router.db_for_read(order) == "replica"
    with transaction.atomic():
        assert picks(order, 5) == {"default": 5}
    assert router.db_for_read(order) == "replica"


def test_c_reads_stay_on_the_primary_without_autocommit(order: Any, use_routers: Make) -> None:
    """A transaction that Django does not manage is one too."""
    use_routers(ReplicaRouter(weights={"replica": 1}))
    transaction.set_autocommit(False)
    try:
        assert router.db_for_read(order) == "default"
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def test_c_read_your_writes_within_a_request(order: Any, use_routers: Make) -> None:
    """From the first write to the end of the request; the next request starts anew."""
    use_routers(ReplicaRouter(weights={"replica": 1}))
    request_started.send(sender=None, environ={})
    assert router.db_for_read(order) == "replica"
    router.db_for_write(order)
    assert picks(order, 5) == {"default": 5}
    request_started.send(sender=None, environ={})
    assert router.db_for_read(order) == "replica"


def test_c_read_your_writes_sees_raw_sql_and_using(order: Any, use_routers: Make) -> None:
    """Writes that ask no router pin the primary as well; reads there do not."""
    use_routers(ReplicaRouter(weights={"replica": 1}))
    assert router.db_for_read(order) == "replica"
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 'INSERT INTO x'")
        assert router.db_for_read(order) == "replica"
        cursor.execute("/* a note */ CREATE TABLE pinned (id integer)")
    assert router.db_for_read(order) == "default"


def test_read_your_writes_where_there_is_no_request(order: Any, use_routers: Make) -> None:
    """The pin holds until it is forgotten; a block gives a task a request's bounds."""
    use_routers(ReplicaRouter(weights={"replica": 1}))
    with read_your_writes():
        router.db_for_write(order)
        assert router.db_for_read(order) == "default"
    assert router.db_for_read(order) == "replica"
    router.db_for_write(order)
    assert picks(order, 3) == {"default": 3}
    forget_writes()
    assert router.db_for_read(order) == "replica"


@pytest.mark.parametrize(
    ("statement", "reads"),
    [
        ("SELECT 1", True),
        ("  -- why\n(SELECT 1) UNION (SELECT 2)", True),
        ("SELECT 'DELETE FROM x', \"update\" FROM y", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("WITH a AS (DELETE FROM x RETURNING *) SELECT * FROM a", False),
        ("SELECT * FROM x FOR UPDATE", False),
        ("SELECT * INTO y FROM x", False),
        ("INSERT INTO x VALUES (1)", False),
        ("EXPLAIN ANALYZE DELETE FROM x", False),
        ("CALL something()", False),
        ("", False),
    ],
)
def test_statements_that_only_read(statement: str, reads: bool) -> None:
    """The text decides, without its literals and comments; in doubt it is a write."""
    assert pins.is_read(statement) is reads


def test_c_a_replica_that_is_down_is_skipped_and_asked_again_later(
    make_aliases: Make, make_model: Make, use_routers: Make, caplog: Any
) -> None:
    """Its share goes to the others; it is tried again when its time has come, and said once."""
    make_aliases("replica_2", replica={"NAME": "/nowhere/at/all.sqlite3"})
    model = make_model("shop", "Order")
    installed = ReplicaRouter(weights={"replica": 1, "replica_2": 1}, retry_after_seconds=5)
    use_routers(installed)
    now = [100.0]
    pool = installed.pools["default"]
    pool._clock = lambda: now[0]
    assert picks(model, 10) == {"replica_2": 10}
    assert caplog.text.count("Replica 'replica' is down") == 1
    connections.settings["replica"]["NAME"] = connections.settings["replica_2"]["NAME"]
    now[0] += 4.9
    assert picks(model, 4) == {"replica_2": 4}
    now[0] += 0.2
    assert picks(model, 4) == {"replica": 2, "replica_2": 2}


def test_c_no_replica_at_all_means_the_primary(
    make_aliases: Make, make_model: Make, use_routers: Make
) -> None:
    """Every replica down: reads go on."""
    make_aliases(replica={"NAME": "/nowhere/at/all.sqlite3"})
    use_routers(ReplicaRouter(weights={"replica": 1}))
    assert picks(make_model("shop", "Order"), 5) == {"default": 5}


def test_c_a_replica_that_lags_is_skipped(order: Any, use_routers: Make) -> None:
    """The measured lag is believed for a probe interval, then measured again."""
    installed = ReplicaRouter(weights={"replica": 1}, max_lag_seconds=5, probe_interval_seconds=1)
    use_routers(installed)
    pool = installed.pools["default"]
    now, lag = [100.0], [0.0]
    pool._clock = lambda: now[0]
    pool.meter.measure = lambda alias: lag[0]  # type: ignore[method-assign]
    assert router.db_for_read(order) == "replica"
    lag[0] = 6.0
    assert router.db_for_read(order) == "replica"
    now[0] += 1.1
    assert router.db_for_read(order) == "default"
    lag[0] = 0.5
    now[0] += 1.1
    assert router.db_for_read(order) == "replica"


def test_a_probe_makes_nobody_wait(order: Any, use_routers: Make) -> None:
    """While one thread asks a replica that does not answer, the others read elsewhere."""
    installed = ReplicaRouter(weights={"replica": 1})
    use_routers(installed)
    pool = installed.pools["default"]
    asked, answer = threading.Event(), threading.Event()

    def measure(alias: str) -> float:
        asked.set()
        assert answer.wait(10)
        return 0.0

    pool.meter.measure = measure  # type: ignore[method-assign]
    prober = threading.Thread(target=lambda: router.db_for_read(order), daemon=True)
    prober.start()
    assert asked.wait(10)
    assert router.db_for_read(order) == "default"
    answer.set()
    prober.join(10)
    assert router.db_for_read(order) == "replica"


def test_a_read_that_fails_on_its_replica_is_answered_by_the_primary(
    order: Any, use_routers: Make
) -> None:
    """The caller's cursor gets the primary's rows; an error of its own statement stays one."""
    use_routers(ReplicaRouter(weights={"replica": 1}))
    with connections["default"].cursor() as cursor:
        cursor.execute("CREATE TABLE here (id integer)")
        cursor.execute("INSERT INTO here VALUES (7)")
    forget_writes()
    assert router.db_for_read(order) == "replica"
    with connections["replica"].cursor() as cursor:
        cursor.execute("SELECT id FROM here")  # OperationalError on the replica: no such table.
        assert cursor.fetchall() == [(7,)]
        with pytest.raises(OperationalError):
            cursor.execute("SELECT id FROM nowhere")
        with pytest.raises(OperationalError):
            cursor.execute("DELETE FROM here")


def test_c_rows_of_a_primary_and_its_replica_may_be_related(order: Any, use_routers: Make) -> None:
    """They are rows of one database."""
    use_routers(ReplicaRouter(weights={"replica": 1}))
    first, second, other = order(), order(), order()
    first._state.db, second._state.db, other._state.db = "default", "replica", "elsewhere"
    assert router.allow_relation(first, second)
    assert not router.allow_relation(first, other)


def test_d_replica_router_without_arguments(
    make_aliases: Make, make_model: Make, use_routers: Make, settings: Any
) -> None:
    """``DATABASE_REPLICAS``, or every alias with replica in its name, at 80 percent."""
    make_aliases("replica", "blog_db", blog_replica={"TEST": {"MIRROR": "blog_db"}})
    found = {name: pool.weights for name, pool in ReplicaRouter().pools.items()}
    assert found == {
        "default": {"replica": 80, "default": 20},
        "blog_db": {"blog_replica": 80, "blog_db": 20},
    }
    settings.DATABASE_REPLICAS = {"default": {"replica": 1}}
    assert {name: pool.weights for name, pool in ReplicaRouter().pools.items()} == {
        "default": {"replica": 1}
    }
    settings.DATABASE_REPLICAS = {"default": {"replica_9": 1}}
    with pytest.raises(ImproperlyConfigured, match="DATABASE_REPLICAS names 'replica_9'"):
        _ = ReplicaRouter().pools
