"""Servers and books for the tests of InfluxDB."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from influx.fake_server import TOKEN, FakeInflux
from influx.servers import InfluxAddress, NoInflux, real_influx

from tailrace.backends.influx.server import Buckets
from tailrace.backends.influxdb import InfluxDBBackend
from tailrace.backends.private_connection import close_private_connections

BOOKS = "influx_books"
SHARD_SECONDS = 20 * 365 * 86_400
BUCKET = os.environ.get("TAILRACE_TEST_INFLUX_BUCKET", "test {}")
"""Names of buckets; ``"test {}/autogen"`` for a server of InfluxDB 1.11 or 1.12."""
_buckets = itertools.count(1)


@pytest.fixture(scope="session")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxAddress]:
    """A real InfluxDB; tests that ask for it are skipped where there is none."""
    try:
        with real_influx(tmp_path_factory.mktemp("influxd")) as address:
            yield address
    except NoInflux as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def _books_database(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    path = tmp_path_factory.mktemp("influx") / "books.sqlite3"
    options = {"timeout": 10, "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"}
    config = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": options}
    with django_db_blocker.unblock():
        connections.settings[BOOKS] = connections.configure_settings(
            {"default": {}, BOOKS: config}
        )[BOOKS]
        call_command("migrate", "tailrace", database=BOOKS, verbosity=0)
        yield
        connections[BOOKS].close()
        close_private_connections(BOOKS)
        del connections[BOOKS]
        del connections.settings[BOOKS]


@pytest.fixture
def books(_books_database: None, django_db_blocker: Any) -> Iterator[str]:
    """The alias of a database with Tailrace's tables, and nothing in them."""
    with django_db_blocker.unblock():
        empty_books()
        yield BOOKS
        close_private_connections(BOOKS)


def empty_books() -> None:
    """Delete every row of the books."""
    for model in apps.get_app_config("tailrace").get_models():
        model._base_manager.using(BOOKS).all().delete()


def widen_shards(backend: InfluxDBBackend) -> None:
    """Let the server keep all years in a few files.

    By default each week has a shard of its own, which takes a slow disk long to make. Tests write
    to hundreds of weeks; and a question without a window opens all of them.
    """
    bucket = Buckets(backend.api, backend.api.server.org).find(backend.bucket)
    assert bucket is not None
    rule = {"type": "expire", "everySeconds": 0, "shardGroupDurationSeconds": SHARD_SECONDS}
    body = json.dumps({"retentionRules": [rule]}).encode()
    headers = {"Content-Type": "application/json"}
    backend.api.call(
        "PATCH", f"/api/v2/buckets/{quote(bucket['id'], safe='')}", None, body, headers
    )


def books_count(model: str) -> int:
    """Return the number of rows of a model of ours."""
    manager: Any = apps.get_model("tailrace", model)._base_manager
    return int(manager.using(BOOKS).count())


@pytest.fixture
def fake_influx() -> Iterator[FakeInflux]:
    """A server that does what it is told."""
    fake = FakeInflux()
    yield fake
    fake.close()


MakeBackend = Callable[..., InfluxDBBackend]


@pytest.fixture
def fake_backend(fake_influx: FakeInflux, books: str) -> Iterator[MakeBackend]:
    """Make backends on the fake server: ``fake_backend(TAG_VALUES_MAX=3)``."""
    made: list[InfluxDBBackend] = []
    fake_influx.buckets["bucket"] = 0

    def make(alias: str = "default", **options: Any) -> InfluxDBBackend:
        own = {"URL": fake_influx.url, "TOKEN": TOKEN, "ORG": "org", "BUCKET": "bucket"}
        backend = InfluxDBBackend(alias, {**own, "BOOKS_ALIAS": books, **options})
        backend.setup()
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def real_backend(influx: InfluxAddress, books: str) -> Iterator[MakeBackend]:
    """Make backends on a real server; each has a fresh bucket unless ``BUCKET`` is given."""
    made: list[InfluxDBBackend] = []

    def make(alias: str = "default", **options: Any) -> InfluxDBBackend:
        own = {
            "URL": influx.url,
            "TOKEN": influx.token,
            "ORG": influx.org,
            "BUCKET": BUCKET.format(next(_buckets)),
            "BOOKS_ALIAS": books,
            "TIMEOUT": 30,
        }
        backend = InfluxDBBackend(alias, {**own, **options})
        backend.setup()
        if backend.ensure_bucket():
            widen_shards(backend)
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()
