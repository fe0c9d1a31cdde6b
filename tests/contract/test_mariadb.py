from __future__ import annotations

from typing import Any

import pytest

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.testing import WriterContract
from tailrace.backends.testing.frames import make_event
from tailrace.pipeline.event import Event


class TestDjangoDBOnMariaDB(WriterContract):
    examples = 20

    @pytest.fixture(autouse=True)
    def _database(self, mariadb_contract_database: Any) -> None:
        self.database = mariadb_contract_database

    def make_backend(self) -> DjangoDBBackend:
        self.database.empty()
        return self.another(None)

    def another(self, backend: Any) -> DjangoDBBackend:
        made = DjangoDBBackend("default", {"ALIAS": self.database.alias})
        made.setup()
        return made

    def stored_events(self, backend: Any) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = self.database.events()
        return events

    def count_dead_letters(self, backend: Any) -> int:
        return int(self.database.count("DeadLetter"))

    def refused_event(self) -> Event:
        event = make_event()
        event.id = b"short"
        return event
