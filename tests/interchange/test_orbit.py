"""The database of django-orbit, made by django-orbit itself."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from interchange.peer_databases import peer_alias, run_host
from tailrace.backends.private_connection import close_private_connections
from tailrace.django_integration.backfills.imports import tables
from tailrace.django_integration.backfills.imports.orbit import TABLE, TYPES, OrbitEntries
from tailrace.django_integration.backfills.imports.tables import Reader, TableSource
from tailrace.pipeline.backfill.contracts import BackfillRefused
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Event
from tailrace.pipeline.interchange import EventMaker, Identity
from tailrace.pipeline.masking import Masker

Entry = dict[str, Any]


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield
        close_private_connections()


@pytest.fixture(scope="session")
def orbit_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Entry]]:
    path = tmp_path_factory.mktemp("orbit") / "orbit.sqlite3"
    return path, run_host("orbit", f"sqlite:///{path}", 3)


def source(alias: str, *, contents: bool = False, zone: Any = None) -> TableSource:
    masker = Masker()
    reader = Reader(alias, zone)
    parts = OrbitEntries(reader, masker, contents).parts()
    return TableSource(reader, parts, EventMaker(Config(), masker), Identity("orbit"))


def events_of(source: TableSource) -> list[Event]:
    return [event for slice_ in source.slices() for piece in source.read(slice_) for event in piece]


def assert_same(events: list[Event], entries: list[Entry]) -> None:
    assert [event.rejected for event in events if event.rejected] == []
    by_id = {str(event.uuid): event for event in events}
    assert len(by_id) == len(events) == len(entries)
    for entry in entries:
        event = by_id[entry["id"]]
        assert event.measurement == entry["type"]
        assert event.time == datetime.fromisoformat(entry["created_at"])
        assert event.trace_id == entry["family_hash"]
        assert event.fields.get("duration_ms") == entry["duration_ms"] or (
            entry["duration_ms"] is None and "duration_ms" in entry["payload"]
        )
        for key, value in entry["payload"].items():
            if isinstance(value, bool | int | float) and key in event.fields:
                if key != "duration_ms":
                    assert event.fields[key] == value
                assert type(event.fields[key]) is type(value)


def test_every_entry_is_there_with_its_type_and_time(orbit_file: tuple[Path, list[Entry]]) -> None:
    path, entries = orbit_file
    assert {entry["type"] for entry in entries} == set(TYPES)
    assert len(TYPES) == 17
    with peer_alias(f"sqlite:///{path}") as alias:
        found = source(alias)
        found.check()
        assert found.estimate().rows == len(entries)
        assert_same(events_of(found), entries)


def test_on_postgresql(postgres_database: Callable[[str], str]) -> None:
    url = postgres_database("orbit")
    entries = run_host("orbit", url, 2)
    with peer_alias(url) as alias:
        found = source(alias)
        found.check()
        assert_same(events_of(found), entries)


def test_what_becomes_of_each_type(orbit_file: tuple[Path, list[Entry]]) -> None:
    path, _ = orbit_file
    with peer_alias(f"sqlite:///{path}") as alias:
        events = events_of(source(alias))
    by_type: dict[str, list[Event]] = {}
    for event in events:
        by_type.setdefault(event.measurement, []).append(event)
    request = next(event for event in by_type["request"] if event.tags["status"] == "200")
    assert request.tags == {"method": "GET", "status": "200"}
    assert request.fields["path"].startswith("/item/")
    assert type(request.fields["response_bytes"]) is int
    assert {event.tags["status"] for event in by_type["request"]} == {"200", "500"}
    query = next(event for event in by_type["query"] if "username" in event.fields["sql"])
    assert query.tags == {"alias": "default", "operation": "SELECT", "status": "ok"}
    assert '"auth_user"."username" = %s' in query.fields["sql"]
    assert "params" not in query.fields
    assert query.trace_id in {event.trace_id for event in by_type["request"]}
    (exception,) = by_type["exception"]
    assert exception.tags == {"type": "LookupError"}
    assert "Traceback" in exception.fields["traceback"]
    assert exception.fields["fingerprint"]
    assert {event.tags["level"] for event in by_type["log"]} >= {"WARNING"}
    (job,) = by_type["job"]
    assert job.tags == {"name": "shop.bill", "status": "success"}
    assert job.fields["duration_ms"] == 3.5
    (command,) = by_type["command"]
    assert command.tags == {"command": "check", "exit_code": "0"}
    assert Counter(event.tags.get("hit") for event in by_type["cache"]) == {
        None: 1, "true": 1, "false": 1,
    }  # fmt: skip
    assert {event.tags["action"] for event in by_type["model"]} == {"created", "updated"}
    (http,) = by_type["http_client"]
    assert (http.tags, http.fields["response_size"]) == ({"method": "GET", "status": "503"}, 17)
    (redis,) = by_type["redis"]
    assert (redis.tags, redis.fields["duration_ms"]) == ({"operation": "GET"}, 0.25)
    (llm,) = by_type["llm"]
    assert llm.tags["provider"] == "openai"
    assert llm.fields["labels"] == "llm,openai"
    (dump,) = by_type["dump"]
    assert json.loads(dump.fields["values"])["ratio"] == 0.5
    (mail,) = by_type["mail"]
    assert mail.fields["subject"] == "Hello"
    assert "body" not in mail.fields


@pytest.mark.parametrize("contents", [False, True])
def test_no_secret_comes_along(orbit_file: tuple[Path, list[Entry]], contents: bool) -> None:
    path, entries = orbit_file
    assert "hunter2secret" in json.dumps(entries)
    with peer_alias(f"sqlite:///{path}") as alias:
        events = events_of(source(alias, contents=contents))
    # What a model was asked has no name that could tell that it is secret.
    telling = [event for event in events if not (contents and event.measurement == "llm")]
    assert "hunter2secret" not in repr([(event.tags, event.fields) for event in telling])
    assert "ann@example.com" not in repr(events)


def test_slices_are_the_same_each_time_and_hold_all(
    orbit_file: tuple[Path, list[Entry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, entries = orbit_file
    monkeypatch.setattr(tables, "SLICE_ROWS", 7)
    monkeypatch.setattr(tables, "PAGE_ROWS", 3)
    with peer_alias(f"sqlite:///{path}") as alias:
        first, second = list(source(alias).slices()), list(source(alias).slices())
        assert first == second
        assert len(first) == -(-len(entries) // 7)
        assert sum(slice_.rows for slice_ in first) == len(entries)
        json.dumps([slice_.spec for slice_ in first])
        # Another process reads them in any order.
        events = [e for s in reversed(first) for piece in source(alias).read(s) for e in piece]
        assert_same(events, entries)
        assert {event.id for event in events_of(source(alias))} == {event.id for event in events}


@pytest.fixture
def mended(orbit_file: tuple[Path, list[Entry]], tmp_path: Path) -> Callable[..., str]:
    """Return what makes a copy of the database with statements run on it, and gives its URL."""

    def make(*statements: str) -> str:
        path = tmp_path / "copy.sqlite3"
        path.write_bytes(orbit_file[0].read_bytes())
        with sqlite3.connect(path) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return f"sqlite:///{path}"

    return make


def test_entries_that_are_broken_are_told_and_stop_nothing(
    orbit_file: tuple[Path, list[Entry]], mended: Callable[..., str]
) -> None:
    entries = sorted(entry["id"] for entry in orbit_file[1])
    first, second, third = (UUID(text).hex for text in entries[:3])
    url = mended(
        "PRAGMA ignore_check_constraints = ON",
        f"UPDATE orbit_orbitentry SET payload = '{{a token=hunter2secret' WHERE id = '{first}'",
        f"UPDATE orbit_orbitentry SET created_at = 'yesterday' WHERE id = '{second}'",
        f"UPDATE orbit_orbitentry SET type = '' WHERE id = '{third}'",
    )
    with peer_alias(url) as alias:
        events = {str(event.uuid): event for event in events_of(source(alias))}
    assert len(events) == len(entries)
    assert events[entries[0]].fields["payload"] == "{a token=***"
    rejected = {event.rejected for event in events.values() if event.rejected}
    assert len(rejected) == 2
    assert all(reason.startswith("orbit_orbitentry, id ") for reason in rejected)
    assert any("no type" in reason for reason in rejected)


def test_an_older_version_without_newer_columns(
    orbit_file: tuple[Path, list[Entry]], mended: Callable[..., str]
) -> None:
    with sqlite3.connect(orbit_file[0]) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND "
            "(sql LIKE '%fingerprint%' OR sql LIKE '%\"tags\"%') AND tbl_name = 'orbit_orbitentry'"
        ).fetchall()
    connection.close()
    url = mended(
        *(f'DROP INDEX "{name}"' for (name,) in names),
        "ALTER TABLE orbit_orbitentry DROP COLUMN fingerprint",
        "ALTER TABLE orbit_orbitentry DROP COLUMN tags",
    )
    with peer_alias(url) as alias:
        found = source(alias)
        found.check()
        assert len(events_of(found)) == len(orbit_file[1])


def test_what_cannot_be_imported_is_refused_with_a_reason(
    mended: Callable[..., str], tmp_path: Path
) -> None:
    with (
        peer_alias(f"sqlite:///{tmp_path}/empty.sqlite3") as alias,
        pytest.raises(BackfillRefused, match="has no table orbit_orbitentry"),
    ):
        source(alias).check()
    with (
        peer_alias(mended("ALTER TABLE orbit_orbitentry DROP COLUMN duration_ms")) as alias,
        pytest.raises(BackfillRefused, match="no columns duration_ms"),
    ):
        source(alias).check()
    with (
        peer_alias(mended("DELETE FROM orbit_orbitentry")) as alias,
        pytest.raises(BackfillRefused, match="are empty"),
    ):
        source(alias).check()


def test_times_of_a_host_without_time_zones(
    orbit_file: tuple[Path, list[Entry]], mended: Callable[..., str]
) -> None:
    """Such a host stores its local time; here it is said whose that is."""
    with peer_alias(mended()) as alias:
        plain = {event.id: event.time for event in events_of(source(alias))}
        zone = ZoneInfo("America/New_York")
        zoned = {event.id: event.time for event in events_of(source(alias, zone=zone))}
    for uid, moment in plain.items():
        assert zoned[uid] == moment.replace(tzinfo=zone)


def test_the_model_is_in_no_app_of_the_host(orbit_file: tuple[Path, list[Entry]]) -> None:
    from django.apps import apps

    with peer_alias(f"sqlite:///{orbit_file[0]}") as alias:
        events_of(source(alias))
    assert not [model for model in apps.get_models() if model._meta.db_table == TABLE.name]
