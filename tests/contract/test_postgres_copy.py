"""The conformance suite over PostgresBackend: by COPY, by unnest, and into partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from django.apps import apps
from postgres_alias import postgres_alias, truncate

from tailrace.backends.postgres import PostgresBackend
from tailrace.backends.private_connection import private_connection
from tailrace.backends.testing import WriterContract
from tailrace.pipeline.event import Event


class PostgresContract(WriterContract):
    """What the variants share."""

    options: ClassVar[dict[str, Any]] = {}
    examples = 15
    alias: str

    @pytest.fixture(autouse=True)
    def _database(
        self, postgres_database: Callable[[str], str], django_db_blocker: Any
    ) -> Iterator[None]:
        with django_db_blocker.unblock(), postgres_alias(postgres_database("contract")) as alias:
            self.alias = alias
            yield

    def make_backend(self) -> PostgresBackend:
        truncate(self.alias)
        return self.another(None)

    def another(self, backend: Any) -> PostgresBackend:
        made = PostgresBackend("default", {"ALIAS": self.alias, **self.options})
        made.setup()
        return made

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


class TestCopy(PostgresContract):
    options: ClassVar = {"WRITE": "copy"}


class TestUnnest(PostgresContract):
    options: ClassVar = {"WRITE": "unnest"}


class TestPartitioned(PostgresContract):
    options: ClassVar = {"PARTITION": "day"}
