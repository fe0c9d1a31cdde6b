"""Fixtures of the fault tests."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.harness import Site
from servers import RedisServer


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of everything random in a test: printed, and taken from ``SEED`` if set."""
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"SEED={seed} replays {request.node.name}")
    return seed


@pytest.fixture(params=["sqlite", "postgres"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, own_redis_server: RedisServer
) -> Iterator[Site]:
    """A migrated site, on SQLite and on PostgreSQL."""
    url = ""
    if request.param == "postgres":
        make: Callable[[str], str] = request.getfixturevalue("postgres_database")
        url = make("faults")
    made = Site(tmp_path, own_redis_server.url(), url)
    made.migrate()
    yield made
    made.stop_all()


@pytest.fixture
def sqlite_site(tmp_path: Path, own_redis_server: RedisServer) -> Iterator[Site]:
    """A migrated site on SQLite."""
    made = Site(tmp_path, own_redis_server.url())
    made.migrate()
    yield made
    made.stop_all()
