"""What the pages ask of the database: nothing that grows with the table."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import reverse

from admin import seed
from tailrace.backends.private_connection import private_connection
from tailrace.django_integration.models import (
    DeadLetter,
    Event,
    ExceptionGroup,
    LedgerEntry,
    ProducerMark,
    ShardCheckpoint,
)

Databases = Callable[..., None]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ROWS = 1_000_000
MEASUREMENTS = 10
# In the order of the rowid, which is the table itself.
_BY_ROWID = re.compile(
    r'^SELECT (?:(?!WHERE).)* ORDER BY (?:"tailrace_\w+"\."id"|1) \w+ LIMIT \d+$'
)

Statement = tuple[str, tuple[Any, ...]]


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """Collect the statements on our tables."""
    seen: list[Statement] = []

    def spy(execute: Callable[..., Any], sql: str, params: Any, *args: Any) -> Any:
        if "tailrace_" in sql and "django_content_type" not in sql:
            seen.append((sql, tuple(params or ())))
        return execute(sql, params, *args)

    with connection.execute_wrapper(spy):
        yield seen


def plan_of(statement: Statement) -> list[str]:
    """What SQLite would do."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement[0]}", statement[1])
        return [row[3] for row in cursor.fetchall()]


def problems(statement: Statement) -> list[str]:
    """What in a statement grows with the table."""
    sql = statement[0]
    found = [word for word in ("COUNT(", "OFFSET", "DISTINCT", "GROUP BY") if word in sql]
    for step in plan_of(statement):
        uses_index = "USING" in step
        if step.startswith("SCAN") and not uses_index and not _BY_ROWID.match(sql):
            found.append(step)
        if step.startswith("SCAN") and "LIMIT" not in sql:
            found.append(f"{step} without a bound")
        # A trace's few events may be sorted, and rows that are equal in the index; no table.
        is_small = '"trace_id" =' in sql or "LAST TERM" in step or "RIGHT PART" in step
        if step.startswith("USE TEMP B-TREE") and not is_small:
            found.append(step)
    return found


@pytest.fixture
def some_rows(admin_databases: Databases) -> None:
    """Two pages and more of everything."""
    for name in ("a", "b", "exception"):
        fields = {"fingerprint": "p0"} if name == "exception" else {}
        seed.store([seed.event(n, name, trace_id=TRACE, fields=fields) for n in range(60)])
    for name in ("a", "b"):
        seed.park(range(60), name)
    DeadLetter.objects.filter(pk__lt=40).update(replayed_at="2026-01-01T00:00Z")
    ProducerMark.objects.bulk_create(
        ProducerMark(backend="default", shard=0, producer=f"{n:020x}", sequence=1)
        for n in range(60)
    )
    LedgerEntry.objects.bulk_create(
        LedgerEntry(backend="default", shard=1, minute=n, measurement="a", outcome="x", amount=1)
        for n in range(60)
    )


ADDRESSES = [
    ("event", ""),
    ("event", "measurement=a"),
    ("event", "measurement=a&tag=plan%3Dpro"),
    ("event", "tag=plan%3Dfree"),
    ("event", "since=2026-05-28T00:00&until=2027-01-01T00:00"),
    ("event", f"q={TRACE}"),
    ("event", f"q={TRACE}&measurement=a"),
    ("deadletter", ""),
    ("deadletter", "state=replayed"),
    ("deadletter", "state=all"),
    ("deadletter", "state=all&measurement=a"),
    ("deadletter", "measurement=a&reason=full"),
    ("exceptiongroup", ""),
    ("ledgerentry", ""),
    ("shardcheckpoint", ""),
    ("producermark", ""),
]


@pytest.mark.parametrize(("model", "query"), ADDRESSES)
def test_no_list_counts_skips_or_scans(
    admin_client: Client, some_rows: None, model: str, query: str
) -> None:
    """The first page, the next one, and back: every statement is bounded by an index."""
    address = f"{reverse(f'admin:tailrace_{model}_changelist')}?{query}"
    visited = 0
    with statements() as seen:
        for link in ("older_link", "newer_link", None):
            response = admin_client.get(address)
            assert response.status_code == 200
            visited += 1
            following = getattr(response.context["cl"], link) if link else None
            if following is None:
                break
            address = address.partition("?")[0] + following
    assert len(seen) >= 2 * visited
    assert {sql: problems((sql, params)) for sql, params in seen if problems((sql, params))} == {}


@pytest.mark.parametrize(
    "model", [Event, DeadLetter, ExceptionGroup, LedgerEntry, ShardCheckpoint, ProducerMark]
)
def test_no_page_of_a_row_counts_skips_or_scans(
    admin_client: Client, some_rows: None, model: Any
) -> None:
    """With its trace, or its latest events."""
    name = model._meta.model_name
    with statements() as seen:
        pk = model.objects.order_by("-pk")[0].pk
        assert admin_client.get(f"/admin/tailrace/{name}/{pk}/change/").status_code == 200
    assert seen
    assert {sql: problems((sql, params)) for sql, params in seen if problems((sql, params))} == {}


def test_the_confirmation_of_a_replay_does_not_count(admin_client: Client, some_rows: None) -> None:
    """It shows the first letters, not how many there are."""
    # It reads as a replay does, on the backend's own connection.
    with private_connection("default"), statements() as seen:
        assert admin_client.get(reverse("admin:tailrace_deadletter_replay")).status_code == 200
    assert seen
    assert not [sql for sql, _ in seen if "COUNT(" in sql or "LIMIT" not in sql]


def test_the_checks_above_see_what_they_are_for(some_rows: None) -> None:
    """Each kind of bad statement is told apart from good ones."""
    table = "tailrace_event"
    for bad in (
        f'SELECT COUNT(*) FROM "{table}"',
        f'SELECT id FROM "{table}" LIMIT 10 OFFSET 5',
        f'SELECT DISTINCT measurement FROM "{table}"',
        f'SELECT id FROM "{table}" ORDER BY time DESC LIMIT 5',
        f"SELECT id FROM \"{table}\" WHERE tags LIKE 'x' LIMIT 5",
        f'SELECT measurement FROM "{table}" ORDER BY measurement',
    ):
        assert problems((bad, ())), bad
    assert not problems((f'SELECT id FROM "{table}" WHERE trace_id = %s', (TRACE,)))


# --- a million rows


class StockAdmin(admin.ModelAdmin):
    """The list that Django makes by itself."""

    list_display = ("time", "measurement", "tags", "fields", "trace_id")
    list_filter = ("measurement",)
    list_per_page = 50
    ordering = ("-id",)


@pytest.fixture
def million(admin_databases: Databases) -> None:
    """A million events of ten measurements, a millisecond apart."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE number(n) AS "
            "(SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < %s) "
            "INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id) "
            "SELECT printf('%%032x', n), 'm' || (n %% %s), "
            "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 1780000000 + n / 1000.0, 'unixepoch'), "
            "json_object('kind', n %% 7), json_object('n', n), printf('%%032x', n / 5) "
            "FROM number",
            [ROWS, MEASUREMENTS],
        )


def seconds(view: Callable[[HttpRequest], Any], query: str, user: User) -> float:
    """The best time of some, to the last byte of the page."""
    best = float("inf")
    for _ in range(3):
        request = RequestFactory().get(f"/?{query}")
        request.user = user
        started = time.perf_counter()
        response = view(request)
        if not response.is_rendered:
            response.render()
        best = min(best, time.perf_counter() - started)
        assert response.status_code == 200
        assert len(response.context_data["cl"].result_list) > 0
    return best


def test_a_million_rows(million: None) -> None:
    """First, deep and filtered pages take well under the time of pages that count."""
    user = User.objects.create_superuser("root")
    stock = StockAdmin(Event, admin.site).changelist_view
    ours = admin.site.get_model_admin(Event).changelist_view
    middle = Event.objects.only("time").get(pk=ROWS // 2).time
    deep = round(middle.timestamp() * 1_000_000)
    pages = {
        "first": ("", ""),
        "deep": ("p=9999", f"before={deep}-{ROWS // 2}"),
        "filtered": ("measurement=m3", "measurement=m3&tag=kind%3D2"),
        "filtered, deep": ("measurement=m3&p=1500", f"measurement=m3&before={deep}-{ROWS // 2}"),
    }
    measured = {
        name: (seconds(stock, theirs, user), seconds(ours, own, user))
        for name, (theirs, own) in pages.items()
    }
    for name, (theirs, own) in measured.items():
        print(f"{name}: {own * 1000:.1f} ms, counting {theirs * 1000:.1f} ms")
    assert {name: pair for name, pair in measured.items() if pair[1] > pair[0] / 2} == {}
