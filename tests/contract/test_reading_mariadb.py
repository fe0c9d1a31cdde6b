from __future__ import annotations

from typing import Any

import pytest

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.testing.reading import ReaderContract


class TestMariaDB(ReaderContract):
    reading_examples = 60

    @pytest.fixture(autouse=True)
    def _database(self, mariadb_contract_database: Any) -> None:
        self.database = mariadb_contract_database

    def make_backend(self) -> DjangoDBBackend:
        self.database.empty()
        return DjangoDBBackend("default", {"ALIAS": self.database.alias})
