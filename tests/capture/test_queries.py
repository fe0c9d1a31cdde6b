"""Every statement is recorded once, on every alias, in every thread, sync and async."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from capture.models import Item
from capture.test_requests import ask, get
from django.db import DatabaseError, connections, transaction
from django.test import Client

from tailrace.django_integration import recorders
from tailrace.django_integration.recorders.sql_params import plain_params, shown_params
from tailrace.pipeline import suppress_recording
from tailrace.pipeline.masking import Masker

pytestmark = pytest.mark.usefixtures("databases")


def run(alias: str, sql: str = "SELECT 1", params: Any = None) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)


def test_a_query(install: Any, emitted: Any) -> None:
    install()
    list(Item.objects.using("capture_one").filter(name="s3cr3t"))
    event = emitted.one("query")
    assert event.tags == {
        "alias": "capture_one",
        "vendor": "sqlite",
        "operation": "SELECT",
        "status": "ok",
    }
    assert 0 < event.fields.pop("duration_ms") < 5_000
    assert event.fields == {
        "sql": 'SELECT "capture_item"."id", "capture_item"."name" FROM "capture_item" '
        'WHERE "capture_item"."name" = %s'
    }
    assert event.trace_id is None


def test_all_aliases(install: Any, emitted: Any) -> None:
    install()
    for alias in ("capture_one", "capture_two"):
        run(alias)
    assert [e.tags["alias"] for e in emitted.made()] == ["capture_one", "capture_two"]


def test_a_request_with_five_queries_makes_six_events(install: Any, emitted: Any) -> None:
    install()
    assert get("/queries/").status_code == 200
    made = emitted.made()
    assert [e.measurement for e in made] == ["query"] * 5 + ["request"]
    assert len({e.trace_id for e in made}) == 1


def test_connections_that_were_open_before(install: Any, emitted: Any) -> None:
    run("capture_one")
    install()
    run("capture_one")
    assert len(emitted) == 1


def test_a_connection_that_another_thread_had_opened_before(install: Any, emitted: Any) -> None:
    opened, installed = threading.Event(), threading.Event()

    def work() -> None:
        run("capture_one")
        opened.set()
        assert installed.wait(5)
        run("capture_one", "SELECT 2")
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    assert opened.wait(5)
    install()
    installed.set()
    thread.join(5)
    assert len(emitted) == 1


def test_threads(install: Any, emitted: Any) -> None:
    install()

    def work() -> None:
        for alias in ("capture_one", "capture_two"):
            run(alias)
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(emitted) == 16


def test_once_even_after_reconnects_and_installing_twice(install: Any, emitted: Any) -> None:
    queries = next(r for r in install() if r.name == "queries")
    for _ in range(3):
        run("capture_one")
        connections["capture_one"].close()
        queries.install()
    assert len(emitted) == 3


def test_async_views(install: Any, emitted: Any) -> None:
    install()
    response = asyncio.run(ask("/queries_async/"))
    assert response.content == b"['a', 'b'] 2"
    asyncio.run(sync_to_async(connections.close_all)())
    assert [e.measurement for e in emitted.made()] == ["query", "query", "request"]
    assert len({e.trace_id for e in emitted.made()}) == 1
    assert emitted.made()[0].trace_id is not None


def test_our_own_connections_and_suppressed_code_are_left_alone(install: Any, emitted: Any) -> None:
    connections["capture_two"].is_tailrace_private = True
    install()
    run("capture_two")
    with suppress_recording():
        run("capture_one")
    assert emitted == []
    assert connections["capture_two"].execute_wrappers == []


def test_an_error_is_recorded_and_raised(install: Any, emitted: Any) -> None:
    install()
    with pytest.raises(DatabaseError, match="no such table: nowhere"):
        run("capture_one", "SELECT * FROM nowhere WHERE token = 's3cr3t'")
    event = emitted.one("query")
    assert event.tags["status"] == "error"
    assert event.fields["error"] == "django.db.utils.OperationalError"
    assert "s3cr3t" not in repr(event)


def test_executemany_tells_rows_and_consumes_nothing(install: Any, emitted: Any) -> None:
    install()
    sql = "INSERT INTO capture_item (name) VALUES (%s)"
    with connections["capture_one"].cursor() as cursor:
        cursor.executemany(sql, [("x",), ("y",), ("z",)])
        cursor.executemany(sql, iter([("v",), ("w",)]))
    assert [e.fields.get("rows") for e in emitted.made()] == [3, None]
    assert Item.objects.using("capture_one").count() == 7


def test_transactions(install: Any, emitted: Any) -> None:
    install()
    with transaction.atomic("capture_one"), transaction.atomic("capture_one"):
        run("capture_one")
    shown = [(e.tags["operation"], e.fields["sql"]) for e in emitted.made()]
    assert shown == [
        ("BEGIN", "BEGIN"),
        ("SAVEPOINT", "SAVEPOINT ?"),
        ("SELECT", "SELECT ?"),
        ("RELEASE", "RELEASE SAVEPOINT ?"),
    ]


def test_sql_that_is_no_string(install: Any, emitted: Any) -> None:
    class Composed:
        """Stands for psycopg's composed SQL."""

        def as_string(self, context: Any) -> str:
            return "SELECT 's3cr3t'"

    recorder = next(r for r in install() if r.name == "queries")
    context = {"connection": connections["capture_one"]}
    for sql in (Composed(), b"SELECT 's3cr3t'", object()):
        assert recorder.execute(lambda *args: "result", sql, None, False, context) == "result"
    shown = [e.fields["sql"] for e in emitted.made()]
    assert shown == ["SELECT ?", "SELECT ?", "<object>"]


def test_params_are_off_and_masked_where_they_are_on(install: Any, emitted: Any) -> None:
    install(RECORDERS={"queries": {"PARAMS": True}})
    Item.objects.using("capture_one").filter(name__in=["bob@example.com", "x"]).first()
    run("capture_one", "SELECT %s AS password, %s AS x", ["s3cr3t", 7])
    shown = [json.loads(e.fields["params"]) for e in emitted.made()]
    assert shown[0] == ["***", "x"]
    assert "s3cr3t" not in repr(shown)


@pytest.mark.parametrize(
    ("sql", "params", "shown"),
    [
        ('SELECT * FROM u WHERE "password" = %s AND id = %s', ["s", 7], ["***", "***"]),
        ("UPDATE u SET token = CASE WHEN id = %s THEN %s END", [7, "s"], ["***", "***"]),
        ("SELECT * FROM u WHERE n IN (%s, %s)", ["c", "bob@example.com"], ["c", "***"]),
        ('INSERT INTO u ("id", "password") VALUES (%s, %s), (%s, %s)', [1, "s", 2, "t"],
         [1, "***", 2, "***"]),
        ('INSERT INTO u ("id", "pin") VALUES (%s, %s) RETURNING "u"."id"', [1, "s"], [1, "***"]),
        ("INSERT INTO u (a, password) VALUES (now(), %s)", ["s"], ["***"]),
        ("INSERT INTO u (a, pin) VALUES (%s, %s) ON CONFLICT (a) DO UPDATE SET pin = %s",
         [1, "s", "s"], ["***"] * 3),
        ("INSERT INTO u (a, b) VALUES (%s, %s)", [1, "b"], [1, "b"]),
        ("INSERT INTO u (a, token) SELECT x, %s FROM y", ["s"], ["***"]),
        ("SELECT %(a)s", {"a": 1}, {"a": 1}),
        ("SELECT * FROM u WHERE pin = %(a)s", {"a": 1}, {"a": "***"}),
        ("SELECT " + "a, " * 9_000, ["a"], ["***"]),
        ("SELECT %s", ["x" * 5_000], ["x" * 1_000]),
    ],
)  # fmt: skip
def test_params_are_as_secret_as_their_column(sql: str, params: Any, shown: Any) -> None:
    plain = plain_params(params, many=False)
    assert plain is not None
    assert json.loads(shown_params(sql, plain, Masker())) == shown


def test_params_keep_nothing_alive_and_are_bounded() -> None:
    model = Item(name="x")
    assert plain_params([model, [model, 1]], many=False) == ["<Item>", ["<Item>", 1]]
    assert plain_params([(1,), (2,)], many=True) == [1]
    assert plain_params(iter([(1,)]), many=True) is None
    assert plain_params({"a": model}, many=False) == {"a": "<Item>"}
    assert len(plain_params(list(range(1_000)), many=False) or ()) == 100


def test_uninstalling_leaves_no_trace(install: Any, emitted: Any) -> None:
    opened, uninstalled = threading.Event(), threading.Event()
    left: list[Any] = []

    def work() -> None:
        run("capture_two")
        opened.set()
        assert uninstalled.wait(5)
        left.extend(connections["capture_two"].execute_wrappers)
        run("capture_two")
        connections.close_all()

    install()
    run("capture_one")
    thread = threading.Thread(target=work)
    thread.start()
    assert opened.wait(5)
    assert len(connections["capture_one"].execute_wrappers) == 1
    recorders.uninstall_recorders()
    uninstalled.set()
    thread.join(5)
    assert left == connections["capture_one"].execute_wrappers == []
    connections["capture_one"].close()
    run("capture_one")
    assert Client().get("/queries/").status_code == 200
    assert len(emitted) == 2
