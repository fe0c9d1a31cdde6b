"""Real processes: a host that hands over readings, drains that are killed, two databases."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from faults.harness import Site
from servers import RedisServer

pytestmark = pytest.mark.faults

COPY = "tailrace.backends.postgres.PostgresBackend"


class ReadingsSite(Site):
    """A site that has the app of readings."""

    variables: dict[str, str]

    def environment(self, fault: str = "", **extra: str) -> dict[str, str]:
        settings = {"DJANGO_SETTINGS_MODULE": "readings.settings", **self.variables}
        return super().environment(fault, **settings, **extra)

    def call(self, *arguments: str) -> str:
        done = self.manage(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def numbers(self) -> Counter[int]:
        """Return how often each number is in the table."""
        rows = self.rows("SELECT visitors FROM station_weatherstationreading")
        return Counter(number for (number,) in rows)

    def forget_leases(self) -> None:
        """What a killed drain leaves behind for 15 seconds, and nothing depends on."""
        with redis.Redis.from_url(self.redis_url) as client:
            for key in client.scan_iter("*lease*"):
                client.delete(key)


def make_site(directory: Path, redis: RedisServer, url: str, **variables: str) -> ReadingsSite:
    site = ReadingsSite(directory, redis.url(), url)
    site.variables = variables
    return site


@pytest.fixture(params=["sqlite", "postgres"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, own_redis_server: RedisServer
) -> Iterator[ReadingsSite]:
    url, variables = "", {}
    if request.param == "postgres":
        make: Callable[[str], str] = request.getfixturevalue("postgres_database")
        url, variables = make("readings"), {"READINGS_BACKEND": COPY}
    made = make_site(tmp_path, own_redis_server, url, **variables)
    made.migrate()
    yield made
    made.stop_all()


def test_killed_in_the_middle_and_still_exactly_once(site: ReadingsSite) -> None:
    """SIGKILL at points of the drain: in the typed table, each reading is there once."""
    sent = 0
    for point in ("mid_write=kill:1", "before_commit=kill:0", "after_commit=kill:0"):
        site.call("station_send", str(sent), "700")
        sent += 700
        assert site.drain(fault=point) == -signal.SIGKILL
        site.forget_leases()
    site.call("station_send", str(sent), "300", "--bad")
    sent += 300
    site.drain()
    numbers = site.numbers()
    assert set(numbers.values()) == {1}
    assert set(range(sent)) - numbers.keys() == {2100, 2200, 2300}
    assert site.rows("SELECT count(*) FROM station_meterreading") == [(sent // 10,)]
    # The last one of the first device.
    seen = site.rows("SELECT max(last_seen) FROM tailrace_device")[0][0]
    assert str(seen).startswith("2024-05-15 12:39:59")
    site.assert_balanced("weatherstation", captured=sent, stored=sent - 3, dead_lettered=3)
    site.assert_balanced("power.meter", captured=sent // 10, stored=sent // 10)
    site.assert_each_once(range(sent))


def test_replayed_once_the_device_is_there(site: ReadingsSite) -> None:
    site.call("station_send", "0", "200", "--bad")
    site.drain()
    assert sum(site.numbers().values()) == 198
    site.execute(
        "INSERT INTO tailrace_device (id, identifier, name, type, metadata, created_at) "
        "VALUES (999999, 'late', '', '', '{}', '2024-01-01T00:00:00+00:00')"
    )
    assert "2" in site.call("tailrace_replay", "--all")
    assert site.numbers() == Counter(range(200))
    site.assert_balanced("weatherstation", captured=200, stored=200)


def test_readings_go_to_the_backend_of_their_alias(
    tmp_path: Path, own_redis_server: RedisServer
) -> None:
    """Two databases, two backends: events in both, readings where their router says."""
    site = make_site(tmp_path, own_redis_server, "", READINGS_ALIAS="1")
    site.migrate()
    site.call("migrate", "--database=telemetry", "--verbosity=0")
    assert site.call("check", "--fail-level=ERROR") is not None
    site.call("station_send", "0", "300", "--bad")
    site.drain()

    def telemetry(query: str) -> Any:
        with closing(sqlite3.connect(tmp_path / "telemetry.sqlite3")) as connection:
            return connection.execute(query).fetchall()

    count = "SELECT count(*) FROM station_weatherstationreading"
    assert telemetry(count) == [(297,)]
    assert site.rows("SELECT name FROM sqlite_master WHERE name LIKE 'station%'") == []
    events = "SELECT count(*) FROM tailrace_event WHERE measurement = 'fault.test'"
    assert site.rows(events) == telemetry(events) == [(300,)]
    typed = "SELECT count(*) FROM tailrace_event WHERE measurement LIKE '%station%'"
    assert site.rows(typed) == telemetry(typed) == [(0,)]
    # Devices live with the default backend, and the readings' backend keeps them up to date.
    seen = site.rows("SELECT count(*) FROM tailrace_device WHERE last_seen IS NOT NULL")
    assert seen == [(5,)]
    ledger = "SELECT outcome, sum(amount) FROM tailrace_ledgerentry WHERE measurement = "
    ledger += "'weatherstation' GROUP BY outcome ORDER BY outcome"
    assert telemetry(ledger) == [("captured", 300), ("dead_lettered", 3), ("stored", 297)]
    assert site.rows(ledger) == []


def test_a_model_whose_alias_no_backend_has(tmp_path: Path, own_redis_server: RedisServer) -> None:
    """The check says which entry to add; without it, nothing is lost and nothing stored."""
    site = make_site(tmp_path, own_redis_server, "", READINGS_ALIAS="alone")
    site.call("migrate", "--skip-checks", "--verbosity=0")
    site.call("station_send", "0", "20", "--skip-checks")
    check = site.manage("check")
    assert check.returncode == 1
    assert "tailrace.E021" in check.stderr
    assert "'telemetry': {'BACKEND': 'tailrace.backends.django_db.DjangoDBBackend'" in check.stderr
    drain = site.manage("tailrace_drain", "--until-empty", "--timeout=20", "--skip-checks")
    assert drain.returncode != 0
    assert "no backend stores there. Add to TAILRACE['BACKENDS']: 'telemetry'" in drain.stderr
    ledger = "SELECT count(*) FROM tailrace_ledgerentry WHERE measurement = 'weatherstation'"
    assert site.rows(ledger) == [(0,)]
    in_flight = site.manage("tailrace_status", "--json", "--skip-checks")
    assert json.loads(in_flight.stdout)[0]["ledger"]["weatherstation"]["in_flight"] == 20
