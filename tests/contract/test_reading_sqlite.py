from __future__ import annotations

from typing import Any

import pytest

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.testing.reading import ReaderContract


class TestSqlite(ReaderContract):
    reading_examples = 100

    @pytest.fixture(autouse=True)
    def _database(self, sqlite_database: Any) -> None:
        self.database = sqlite_database

    def make_backend(self) -> DjangoDBBackend:
        self.database.empty()
        return DjangoDBBackend("default", {"ALIAS": self.database.alias})
