"""Pages by key: every row on exactly one page, forwards and backwards, whatever the ties."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from admin import seed
from tailrace.django_integration.admin import keyset
from tailrace.django_integration.admin.keyset import BadCursor, Order, Plan, read_page
from tailrace.django_integration.models import Event

Databases = Callable[..., None]
BY_TIME = Order("time", is_time=True)
BY_ID = Order()


def make_events(count: int, randomness: random.Random) -> list[Event]:
    """Events of three measurements at few distinct times, so that many are equal."""
    seed.store(
        [
            seed.event(
                number,
                randomness.choice(["a", "b", "c"]),
                time_ns=seed.NOW_NS + randomness.randrange(6) * 1000,
            )
            for number in range(count)
        ]
    )
    return list(Event.objects.order_by("-time", "-id"))


def walk(plan: Plan, size: int) -> tuple[list[list[int]], list[list[int]]]:
    """Read all pages from the newest to the oldest, and back."""
    pages, back = [], []
    page = read_page(plan, size)
    while True:
        pages.append(page.ids)
        if page.older is None:
            break
        page = read_page(plan, size, before=page.older)
    while page.newer is not None:
        page = read_page(plan, size, after=page.newer)
        back.append(page.ids)
    return pages, back


@pytest.mark.parametrize("size", [1, 3, 10, 39, 40, 41])
def test_every_row_once_and_back(admin_databases: Databases, size: int) -> None:
    """With one lane and with one each measurement, by time and by id."""
    events = make_events(40, random.Random(size))
    rows = Event.objects.all()
    lanes = [rows.filter(measurement=name) for name in "abc"]
    by_id = sorted((event.id for event in events), reverse=True)
    for plan, expected in [
        (Plan([rows], BY_TIME), [event.id for event in events]),
        (Plan(lanes, BY_TIME), [event.id for event in events]),
        (Plan(lanes, BY_ID), by_id),
    ]:
        pages, back = walk(plan, size)
        assert [one for page in pages for one in page] == expected
        assert back == pages[-2::-1]


def test_new_rows_do_not_move_a_page(admin_databases: Databases) -> None:
    """What comes in while somebody reads shifts nothing: the defect of page numbers."""
    seed.store([seed.event(number) for number in range(20)])
    plan = Plan([Event.objects.all()], BY_TIME)
    first = read_page(plan, 5)
    seed.store([seed.event(number) for number in range(100, 110)])
    second = read_page(plan, 5, before=first.older)
    assert not set(first.ids) & set(second.ids)
    assert second.ids == [15, 14, 13, 12, 11]


@pytest.mark.parametrize("is_older", [True, False])
def test_a_filter_without_an_index_reads_a_bounded_number_of_rows(
    admin_databases: Databases, monkeypatch: pytest.MonkeyPatch, is_older: bool
) -> None:
    """It stops, says where, and goes on from there; together the pages have every match."""
    monkeypatch.setattr(keyset, "SCAN_MAX_ROWS", 30)
    monkeypatch.setattr(keyset, "_SCAN_CHUNK_ROWS", 7)
    make_events(200, random.Random(5))
    rare = {3, 4, 99, 198}
    seen: list[int] = []
    plan = Plan([Event.objects.all()], BY_TIME, lambda row: row[0]["n"] in rare, ("fields",))
    cursor, pages = None, 0
    while True:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            page = read_page(plan, 10, before=cursor)
        assert len(queries) <= 30 // 7 + 1
        seen += page.ids
        pages += 1
        if page.older is None:
            break
        assert page.scanned_back_to is not None
        cursor = page.older
    assert pages == 7
    numbers = {event.id: event.fields["n"] for event in Event.objects.all()}
    assert {numbers[one] for one in seen} == rare
    assert len(seen) == len(rare)


def test_going_newer_past_the_top_gives_a_full_page(admin_databases: Databases) -> None:
    """Three rows are newer than the cursor; the page has the newest ten all the same."""
    seed.store([seed.event(number) for number in range(20)])
    plan = Plan([Event.objects.all()], BY_ID)
    page = read_page(plan, 10, after="17")
    assert page.ids == list(range(20, 10, -1))
    assert page.newer is None
    assert page.older == "11"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "x",
        "1",
        "1-x",
        "x-1",
        "1-2-x",
        "9" * 30 + "-1",
        f"{2**63}-1",
        "1-" + "9" * 25,
        "9223372036854775807-1",
        "-" * 60,
        "１-x",
        "1.5-2",
        "nan-1",
    ],
)
def test_bad_cursors(text: str) -> None:
    """What a visitor makes up is refused, and never reaches the database."""
    with pytest.raises(BadCursor):
        BY_TIME.decode(text)


@pytest.mark.parametrize("text", ["1-2", "x", "", "9" * 25])
def test_bad_cursors_of_lists_by_id(text: str) -> None:
    """The same for a list that has no column but the id."""
    with pytest.raises(BadCursor):
        BY_ID.decode(text)


def test_cursors_come_back_as_they_were() -> None:
    """To the microsecond, and before 1970 too."""
    for moment in (datetime(2026, 5, 31, 1, 2, 3, 456789, UTC), datetime(1901, 1, 1, tzinfo=UTC)):
        assert BY_TIME.decode(BY_TIME.encode((moment, 7))) == (moment, 7)
    assert BY_ID.decode(BY_ID.encode((7,))) == (7,)
    assert Order("minute").decode("-60-3") == (-60, 3)
    assert timedelta(0) == BY_TIME.decode("0-1")[0] - datetime(1970, 1, 1, tzinfo=UTC)


def test_distinct_values_look_up_each_value_once(admin_databases: Databases) -> None:
    """One query a value and one to end; bounded."""
    make_events(40, random.Random(1))
    with CaptureQueriesContext(connection) as queries:
        assert keyset.distinct_values(Event.objects.all(), "measurement") == ["a", "b", "c"]
    assert len(queries) == 4
    assert not any("DISTINCT" in query["sql"] for query in queries)
    assert keyset.distinct_values(Event.objects.all(), "measurement", limit=2) == ["a", "b"]
