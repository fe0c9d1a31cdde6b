"""PostgresBackend on a real server: exact values, hostile ones, lost replies, restarts, pools."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from postgres_alias import connect, postgres_alias, rows
from postgres_server import PostgresServer
from tcp_proxy import CutWhenSeen, TcpProxy

from tailrace.backends.postgres import PostgresBackend
from tailrace.backends.private_connection import close_private_connections
from tailrace.backends.testing import MemoryStream
from tailrace.backends.testing.draining import CONFIG, drain
from tailrace.backends.testing.frames import issue, make_events, wire_event
from tailrace.pipeline import faults
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.config import Config
from tailrace.pipeline.drain import Drain
from tailrace.pipeline.errors import (
    ConfigurationError,
    RejectedEvents,
    TransientBackendError,
)
from tailrace.pipeline.event import INT_MAX, INT_MIN, Event
from tailrace.pipeline.ledger import Balance
from tailrace.pipeline.producer import Producer
from tailrace.pipeline.stream import Stream

ALL = "SELECT uid, measurement, time, tags::text, fields::text, trace_id FROM tailrace_event"
NUMBERS = "SELECT (fields->>'number')::int FROM tailrace_event ORDER BY 1"


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def url(postgres_database: Callable[[str], str]) -> str:
    return postgres_database("copy")


@pytest.fixture
def alias(url: str) -> Iterator[str]:
    with postgres_alias(url) as name:
        yield name


def make(alias: str, **options: Any) -> PostgresBackend:
    backend = PostgresBackend("default", {"ALIAS": alias, **options})
    backend.setup()
    return backend


def write(backend: PostgresBackend, *events: Event) -> None:
    backend.create_checkpoint(Checkpoint(0))
    with backend.transaction(0) as tx:
        tx.write(events)


def filled(numbers: range, per_frame: int = 100, shard_count: int = 1) -> MemoryStream:
    """Return a stream with events that have these numbers."""
    stream, producer = MemoryStream(CONFIG), Producer(shard_count, {})
    for start in range(numbers.start, numbers.stop, per_frame):
        some = range(start, min(start + per_frame, numbers.stop))
        issued = issue(producer, [wire_event(number) for number in some])
        stream.send(issued.shard, [issued.frame])
    return stream


def balance(backend: PostgresBackend) -> Balance:
    return Balance.of((outcome, amount) for _, outcome, amount in backend.ledger_totals())


# --- configuration


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"PARTITION": "hour"}, "'PARTITION'] is 'hour'; write one of: None, 'day', 'week', 'mon"),
        ({"WRITE": "insert"}, "'WRITE'] is 'insert'; write one of: 'auto', 'copy', 'unnest'"),
        ({"PARTITIONS_AHEAD": 0}, "PARTITIONS_AHEAD'] is 0; write a number from 1 to 100"),
        ({"PARTITION": 7}, "write a str or NoneType"),
        ({"PARTITON": "day"}, "It takes: ALIAS, PARTITION, PARTITIONS_AHEAD, WRITE"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PostgresBackend("default", options)
    assert says in str(caught.value)


def test_an_alias_that_is_no_postgresql_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'default' is SQLite .*use PostgreSQL"):
        PostgresBackend("default", {}).setup()


# --- values

VALUES: list[dict[str, Any]] = [
    {},
    {"int": INT_MAX, "least": INT_MIN, "zero": 0, "float": 0.1, "tiny": 5e-324, "minus": -0.0},
    {"yes": True, "no": False, "none": None, "": "", "large": 1.7976931348623157e308},
    {"unicode": "äöü \U0001f30a é 中文 ‮", 'quo"te\\': "back\\slash \\u0000 \\N\t\r\n\x01\x7f"},
    {"long": "x" * 100_000, "json": '{"a": [1, null]}'},
]


@pytest.mark.parametrize("how", ["copy", "unnest"])
def test_values_come_back_as_they_were(alias: str, how: str) -> None:
    times = (INT_MIN, INT_MAX, 0, 999, 1_700_000_000_123_456_789)
    events = [
        Event(f"m-ü{n}", times[n], {"tag": str(n), "ü": ""}, fields, "t" * n, None, bytes([n]) * 16)
        for n, fields in enumerate(VALUES)
    ]
    write(make(alias, WRITE=how), *events)
    query = "SELECT uid, measurement, time, tags::text, fields::text, trace_id FROM tailrace_event"
    stored = rows(alias, f"{query} ORDER BY uid")
    for event, (uid, measurement, moment, tags, fields, trace_id) in zip(
        events, stored, strict=True
    ):
        assert (uid, measurement, moment) == (event.uuid, event.measurement, event.time)
        assert (json.loads(tags), trace_id) == (event.tags, event.trace_id)
        assert repr(_as_given(json.loads(fields))) == repr(_as_given(event.fields))


def _as_given(fields: dict[str, Any]) -> dict[str, Any]:
    # jsonb keeps a number's digits, in its own order of keys: the largest float, written out,
    # is an integer, and the float minus zero is zero.
    floats = {"large", "minus"}
    return {k: abs(float(v)) if k in floats else v for k, v in sorted(fields.items())}


def test_auto_asks_the_server(url: str, alias: str) -> None:
    """A server that runs as WebAssembly says so in its version, and must not see a COPY."""
    with connect(url) as connection:
        connection.execute("CREATE SCHEMA fake")
        connection.execute(
            "CREATE FUNCTION fake.version() RETURNS text LANGUAGE sql AS "
            "$$ SELECT 'PostgreSQL 17.5 on x86_64, compiled by emcc (Emscripten ...), 32-bit' $$"
        )
        connection.execute("CREATE TABLE log (query text)")
        # Statement-level triggers see which statement wrote.
        connection.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO public.log VALUES (current_query()); RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER note AFTER INSERT ON tailrace_event "
            "FOR EACH STATEMENT EXECUTE FUNCTION note()"
        )
    write(make(alias), *make_events(3))
    assert make(alias).backfill_step_rows() == 10_000
    options = "-c search_path=fake,pg_catalog,public"
    with postgres_alias(url, migrate=False, options=options) as wasm:
        write(make(wasm), *make_events(3))
        assert make(wasm).backfill_step_rows() == 2_000
    logged = [query for (query,) in rows(alias, "SELECT query FROM log")]
    assert logged[0].startswith("COPY tailrace_event")
    assert "FROM unnest(" in logged[1]


# --- hostile values


def test_what_the_server_refuses_and_nothing_else_becomes_a_dead_letter(alias: str) -> None:
    backend, stream, producer = make(alias), MemoryStream(CONFIG), Producer(1, {})
    bad = {3: {"text": "a\0b"}, 40: {"a\0b": 1}, 41: {"n": 2**63}, 77: {"n": 2**64 - 1}}
    events = [wire_event(n, fields=bad.get(n, {"number": n})) for n in range(100)]
    events[50] = ("checkout", 2**63, {}, {"number": 50}, None)
    events[51] = ("checkout", 0, {"tag": "\0"}, {"number": 51}, None)
    good = sorted(set(range(100)) - bad.keys() - {50, 51})
    for start in (0, 50):
        issued = issue(producer, events[start : start + 50])
        stream.send(issued.shard, [issued.frame])
    drain(backend, stream)
    assert [number for (number,) in rows(alias, NUMBERS)] == good
    letters = rows(alias, "SELECT measurement, payload, reason FROM tailrace_deadletter")
    assert len(letters) == 6
    for measurement, payload, reason in letters:
        assert measurement == "checkout"
        assert payload is not None, "it can be looked at, and replayed"
        assert "Unicode escape" in reason or "does not fit the wire format" in reason
    books = balance(backend)
    assert (books.stored, books.dead_lettered, books.is_balanced) == (94, 6, True)


def test_an_exception_of_a_trigger_rejects_the_row(url: str, alias: str) -> None:
    with connect(url) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.fields->>'number' = '7' THEN RAISE EXCEPTION 'seven!'; END IF; "
            "RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON tailrace_event "
            "FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    backend = make(alias)
    drain(backend, filled(range(20)))
    assert [n for (n,) in rows(alias, NUMBERS)] == [n for n in range(20) if n != 7]
    ((reason,),) = rows(alias, "SELECT reason FROM tailrace_deadletter")
    assert "seven!" in reason


def test_a_refused_write_leaves_the_transaction_usable(alias: str) -> None:
    backend = make(alias)
    backend.create_checkpoint(Checkpoint(0))
    good, bad = make_events(2), Event("a", 0, {}, {"bad": "\0"}, id=b"b" * 16)
    with backend.transaction(0) as tx:
        with pytest.raises(RejectedEvents, match="unsupported Unicode escape"):
            tx.write([*good, bad])
        with pytest.raises(RejectedEvents):
            tx.write([Event("a", 0, {}, {"bad": object()}, id=b"b" * 16)])  # type: ignore[dict-item]
        tx.write(good)
    assert len(rows(alias, ALL)) == 2


# --- connections


def test_the_hosts_transaction_is_none_of_ours(alias: str) -> None:
    backend = make(alias)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        host_pid = cursor.fetchone()[0]
        drain(backend, filled(range(10)))
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone()[0] == host_pid
        transaction.set_rollback(True, using=alias)
    assert len(rows(alias, ALL)) == 10
    ((own_pid,),) = rows(alias, "SELECT pg_backend_pid()")
    assert own_pid != host_pid


def test_the_pool_is_used_and_gets_its_connections_back(url: str) -> None:
    pool = {"min_size": 1, "max_size": 2, "timeout": 5}
    with postgres_alias(url, pool=pool) as alias:
        backend = make(alias)
        connections[alias].close()
        errors: list[BaseException] = []

        def work(shard: int) -> None:
            try:
                backend.create_checkpoint(Checkpoint(shard))
                with backend.transaction(shard) as tx:
                    tx.write(make_events(5))
            except BaseException as error:
                errors.append(error)
                raise

        # More threads than the pool has connections, and none of them ends before all are done.
        for _ in range(2):
            threads = [threading.Thread(target=work, args=(shard,)) for shard in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
        assert not errors
        assert len(rows(alias, ALL)) == 50
        stats = connections[alias].pool.get_stats
        # A pool looks connections that are given back over in a thread of its own.
        deadline = time.monotonic() + 10
        while stats()["pool_available"] < stats()["pool_size"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert stats()["pool_available"] == stats()["pool_size"] <= 2


def test_a_commit_whose_reply_is_lost(url: str, make_proxy: Callable[[int], TcpProxy]) -> None:
    """The rows are in, the drain cannot know it, and the next one stores nothing twice."""
    with postgres_alias(url):
        pass
    proxy = make_proxy(urlsplit(url).port or 5432)
    through = url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/")
    with postgres_alias(through, migrate=False, sslmode="disable", gssencmode="disable") as alias:
        backend, stream = make(alias), filled(range(200))
        backend.create_checkpoint(Checkpoint(0))
        fault = proxy.inject(CutWhenSeen(b"COMMIT", deliver=True))
        with pytest.raises(TransientBackendError):
            drain(backend, stream)
        assert fault.fired == 1
        proxy.heal()
        with connect(url) as connection:
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                (stored,) = connection.execute("SELECT count(*) FROM tailrace_event").fetchone()
                if stored:
                    break
            assert stored == 200, "the server did commit"
        drain(backend, stream)
        assert [number for (number,) in rows(alias, NUMBERS)] == list(range(200))
        assert balance(backend).is_balanced
        assert stream.length(0) == 0


def test_a_server_that_restarts_in_mid_drain() -> None:
    server = PostgresServer()
    server.start()
    try:
        with postgres_alias(server.create_database("restart")) as alias:
            _drain_through_a_restart(server, alias)
    finally:
        server.remove()


def _drain_through_a_restart(server: PostgresServer, alias: str) -> None:
    backend, stream = make(alias), filled(range(20_000), per_frame=250)
    config = type(CONFIG)(backends=CONFIG.backends, shards=1, drain_batch_events=250)
    failures: list[str] = []

    def work() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                drain(backend, stream, config)
                break
            except TransientBackendError as error:
                failures.append(str(error))
                time.sleep(0.05)
        close_private_connections()

    thread = threading.Thread(target=work)
    thread.start()
    with server.connect("restart") as connection:
        while not connection.execute("SELECT count(*) FROM tailrace_event").fetchone()[0]:
            time.sleep(0.005)
    server.kill()
    time.sleep(0.3)
    server.start()
    thread.join(40)
    assert failures, "the restart came too late"
    assert [number for (number,) in rows(alias, NUMBERS)] == list(range(20_000))
    books = balance(backend)
    assert (books.stored, books.is_balanced) == (20_000, True)


# --- SIGKILL

POINTS = [
    "before_read",
    "after_read",
    "after_decode",
    "mid_write",
    "before_commit",
    "after_commit",
    "before_trim",
    "mid_trim",
]


def test_killed_at_every_point(alias: str, redis_url: str) -> None:
    """In the second batch each time, while the third one is being read ahead."""
    config = Config(redis_url=redis_url, shards=1, drain_batch_events=500)
    stream, backend, producer = Stream(config, 5.0), make(alias), Producer(1, {})
    numbers: list[int] = []
    for turn, point in enumerate(POINTS):
        fresh = range(turn * 2_000, (turn + 1) * 2_000)
        numbers += fresh
        for start in fresh[::20]:
            events = [wire_event(number) for number in range(start, start + 20)]
            stream.send(0, [issue(producer, events).frame])
        status = drain_in_child(config, backend, fault=f"{point}=kill:1")
        assert os.WIFSIGNALED(status), f"{point} was not reached twice"
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert drain_in_child(config, backend) == 0
    assert [number for (number,) in rows(alias, NUMBERS)] == numbers
    books = balance(backend)
    assert (books.captured, books.stored, books.is_balanced) == (len(numbers), len(numbers), True)
    assert stream.length(0) == 0
    stream.close()


def drain_in_child(config: Config, backend: PostgresBackend, fault: str = "") -> int:
    """Drain shard 0 in a process of its own; return the status that ``waitpid`` gives."""
    stream = Stream(config, 5.0)
    # The lease of a drainer that was killed runs out in 15 s; nothing depends on it.
    stream._redis().delete(stream._key(0, f"lease:{backend.alias}"))
    stream.close()
    with warnings.catch_warnings():
        # Python 3.12 warns that other threads' locks stay locked in the child; it takes none.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            faults._armed, faults._passes = fault, 0
            drainer = Drain(config, stream, backend, lambda measurement: True, [backend.alias])
            status = 0 if drainer.run(0, 30).is_empty else 2
        except BaseException:  # noqa: BLE001 - the child has nobody to raise to
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]
