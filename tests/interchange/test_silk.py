"""The database of django-silk, made by django-silk itself."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from interchange.peer_databases import peer_alias, run_host
from tailrace.backends.private_connection import close_private_connections
from tailrace.django_integration.backfills.imports.silk import IDENTITY, SilkRows
from tailrace.django_integration.backfills.imports.silk_sql import statement
from tailrace.django_integration.backfills.imports.tables import Reader, TableSource
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Event
from tailrace.pipeline.interchange import EventMaker
from tailrace.pipeline.masking import Masker

Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield
        close_private_connections()


@pytest.fixture(scope="session")
def silk_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables]:
    path = tmp_path_factory.mktemp("silk") / "silk.sqlite3"
    return path, run_host("silk", f"sqlite:///{path}", 3)


def source(alias: str, *, contents: bool = False) -> TableSource:
    masker = Masker()
    reader = Reader(alias, None)
    parts = SilkRows(reader, masker, contents).parts()
    return TableSource(reader, parts, EventMaker(Config(), masker), IDENTITY)


def events_of(source: TableSource) -> list[Event]:
    return [event for slice_ in source.slices() for piece in source.read(slice_) for event in piece]


def by_measurement(events: list[Event]) -> dict[str, list[Event]]:
    assert [event.rejected for event in events if event.rejected] == []
    assert len({event.id for event in events}) == len(events)
    found: dict[str, list[Event]] = {"request": [], "query": [], "profile": []}
    for event in events:
        found[event.measurement].append(event)
    return found


def trace_of(row: dict[str, Any]) -> str | None:
    return UUID(row["request_id"]).hex if row["request_id"] else None


def assert_same(events: list[Event], tables: Tables) -> None:
    found = by_measurement(events)
    assert_same_requests(found["request"], tables)
    assert len(found["query"]) == len(tables["SQLQuery"])
    queries = {(event.trace_id, event.time): event for event in found["query"]}
    for row in tables["SQLQuery"]:
        event = queries[trace_of(row), datetime.fromisoformat(row["start_time"])]
        assert event.fields["duration_ms"] == row["time_taken"]
        assert event.tags["operation"] == row["query"].split()[0]
        assert event.fields["traceback"]
    assert len(found["profile"]) == len(tables["Profile"])
    profiles = {(event.trace_id, event.time): event for event in found["profile"]}
    counts = {row["profile"]: row["queries"] for row in tables["ProfileQueries"]}
    for row in tables["Profile"]:
        event = profiles[trace_of(row), datetime.fromisoformat(row["start_time"])]
        assert event.tags["name"] == row["name"]
        assert event.tags["status"] == ("error" if row["exception_raised"] else "ok")
        assert event.fields["duration_ms"] == row["time_taken"]
        assert event.fields["line"] == row["line_num"]
        assert event.fields["dynamic"] is row["dynamic"]
        assert event.fields["queries"] == counts[row["id"]]


def assert_same_requests(events: list[Event], tables: Tables) -> None:
    assert len(events) == len(tables["Request"]) == len(tables["Response"])
    requests = {event.trace_id: event for event in events}
    for row in tables["Request"]:
        event = requests[UUID(row["id"]).hex]
        assert event.time == datetime.fromisoformat(row["start_time"])
        assert event.fields["duration_ms"] == row["time_taken"]
        assert event.tags["method"] == row["method"]
        assert event.tags["view"] == row["view_name"]
        assert event.fields["path"] == row["path"]
        assert event.fields["queries"] == row["num_sql_queries"]
        assert event.fields["meta_queries"] == row["meta_num_queries"]
        assert event.fields["pyprofile"]
    for row in tables["Response"]:
        event = requests[trace_of(row)]
        assert event.tags["status"] == str(row["status_code"])
        assert event.fields["response_bytes"] == len(base64.b64decode(row["raw_body"]))


def test_every_row_is_there_with_its_type_and_time(silk_file: tuple[Path, Tables]) -> None:
    path, tables = silk_file
    assert len(tables["Request"]) == 4
    assert tables["SQLQuery"]
    assert tables["Profile"]
    with peer_alias(f"sqlite:///{path}") as alias:
        found = source(alias)
        found.check()
        assert found.estimate().rows == sum(
            len(tables[name]) for name in ("Request", "SQLQuery", "Profile")
        )
        assert_same(events_of(found), tables)


def test_on_postgresql(postgres_database: Callable[[str], str]) -> None:
    url = postgres_database("silk")
    tables = run_host("silk", url, 2)
    with peer_alias(url) as alias:
        assert_same(events_of(source(alias)), tables)


def test_a_second_reading_gives_the_same_ids_wherever_the_database_is(
    silk_file: tuple[Path, Tables], tmp_path: Path
) -> None:
    copy = tmp_path / "moved.sqlite3"
    copy.write_bytes(silk_file[0].read_bytes())
    with peer_alias(f"sqlite:///{silk_file[0]}") as first, peer_alias(f"sqlite:///{copy}") as other:
        ids = {event.id for event in events_of(source(first))}
        assert {event.id for event in events_of(source(other))} == ids


@pytest.mark.parametrize("contents", [False, True])
def test_no_secret_comes_along(silk_file: tuple[Path, Tables], contents: bool) -> None:
    path, tables = silk_file
    assert "hunter2secret" in json.dumps(tables)
    with peer_alias(f"sqlite:///{path}") as alias:
        events = events_of(source(alias, contents=contents))
    assert "hunter2secret" not in repr([(event.tags, event.fields) for event in events])
    assert any("response_body" in event.fields for event in events) is contents


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        (
            'SELECT "a"."id", "a"."b" AS "c" FROM "a" WHERE ("a"."b" = O\'Neil "x" AND '
            '"a"."id" IN (1, 2, 3)) ORDER BY "a"."id" ASC LIMIT 21',
            'SELECT "a"."id", "a"."b" AS "c" FROM "a" WHERE ("a"."b" = ? AND "a"."id" IN (?)) '
            'ORDER BY "a"."id" ASC LIMIT ?',
        ),
        (
            'INSERT INTO "a" ("b", "c") VALUES (bob, {"k": "se(cr)et"})',
            'INSERT INTO "a" ("b", "c") VALUES (?(?)?)',
        ),
        (
            'UPDATE "a" SET "password" = {"x": "secret"} y WHERE "a"."id" = 1',
            'UPDATE "a" SET ? = ? WHERE "a"."id" = ?',
        ),
        ("SELECT `a`.`b` FROM `a` WHERE `a`.`b` LIKE %x%", None),
    ],
)
def test_of_sql_only_what_the_orm_wrote_is_kept(sql: str, shown: str | None) -> None:
    operation, text = statement(sql)
    assert operation == sql.split()[0]
    if shown is not None:
        assert text == shown
    for secret in ("secret", "bob", "Neil", "cr", "%x", "21"):
        assert secret not in text


def test_a_query_without_a_time_has_its_requests(
    silk_file: tuple[Path, Tables], tmp_path: Path
) -> None:
    path = tmp_path / "copy.sqlite3"
    path.write_bytes(silk_file[0].read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE silk_sqlquery SET start_time = NULL")
        connection.execute("UPDATE silk_sqlquery SET request_id = NULL WHERE id = 1")
    connection.close()
    with peer_alias(f"sqlite:///{path}") as alias:
        events = events_of(source(alias))
    queries = [event for event in events if event.measurement == "query"]
    requests = {e.trace_id: e.time for e in events if e.measurement == "request"}
    assert all(event.time == requests[event.trace_id] for event in queries)
    (bad,) = [event for event in events if event.rejected]
    assert bad.rejected == "silk_sqlquery, id 1: the time is None"
