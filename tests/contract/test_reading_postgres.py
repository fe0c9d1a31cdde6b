from __future__ import annotations

from typing import Any

import pytest

from tailrace.backends.postgres import PostgresBackend
from tailrace.backends.testing.reading import ReaderContract


class TestPostgres(ReaderContract):
    reading_examples = 100

    @pytest.fixture(autouse=True)
    def _database(self, postgres_contract_database: Any) -> None:
        self.database = postgres_contract_database

    def make_backend(self) -> PostgresBackend:
        self.database.empty()
        return PostgresBackend("default", {"ALIAS": self.database.alias})
