"""The conformance suites over TimescaleDBBackend, with events in a hypertable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from django.apps import apps
from postgres_alias import postgres_alias, rows, truncate

from tailrace.backends.private_connection import private_connection
from tailrace.backends.testing import WriterContract
from tailrace.backends.testing.reading import ReaderContract
from tailrace.backends.timescale import TimescaleDBBackend
from tailrace.pipeline.event import Event


@pytest.fixture(scope="module")
def contract_alias(
    timescale_database_of_module: Callable[[str], str], django_db_blocker: Any
) -> Iterator[str]:
    url = timescale_database_of_module("contract")
    with django_db_blocker.unblock(), postgres_alias(url) as alias:
        yield alias


class TimescaleContract:
    """What both halves share."""

    options: ClassVar[dict[str, Any]] = {}
    alias: str

    @pytest.fixture(autouse=True)
    def _database(self, contract_alias: str) -> None:
        self.alias = contract_alias

    def make_backend(self) -> TimescaleDBBackend:
        truncate(self.alias)
        return self.another(None)

    def another(self, backend: Any) -> TimescaleDBBackend:
        made = TimescaleDBBackend("default", {"ALIAS": self.alias, **self.options})
        made.setup()
        return made


class TestWriter(TimescaleContract, WriterContract):
    examples = 10

    def stored_events(self, backend: Any) -> list[dict[str, Any]]:
        with private_connection(self.alias):
            stored = apps.get_model("tailrace", "Event").objects.using(self.alias)
            return [
                {
                    "measurement": row.measurement,
                    "time": row.time,
                    "tags": row.tags,
                    "fields": row.fields,
                    "trace_id": row.trace_id or None,
                    "id": str(row.uid),
                }
                for row in stored.order_by("pk")
            ]

    def count_dead_letters(self, backend: Any) -> int:
        with private_connection(self.alias):
            return apps.get_model("tailrace", "DeadLetter").objects.using(self.alias).count()

    def refused_event(self) -> Event:
        return Event("a", 0, {"bad": "\0"}, {}, id=b"r" * 16)

    def test_events_are_in_a_hypertable(self) -> None:
        backend = self.open_shard()
        self.commit(backend, "1-0", events=[Event("a", 0, {}, {}, id=b"1" * 16)])
        query = (
            "SELECT num_chunks FROM timescaledb_information.hypertables WHERE hypertable_name = %s"
        )
        assert rows(self.alias, query, "tailrace_event") == [(1,)]


class TestReader(TimescaleContract, ReaderContract):
    reading_examples = 40
