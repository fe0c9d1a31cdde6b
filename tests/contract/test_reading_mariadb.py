from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.testing.reading import ReaderContract


@pytest.fixture(scope="module")
def mariadb_database(mariadb_settings: dict[str, Any], add_alias: Callable[..., Any]) -> Any:
    return add_alias("contract_mariadb", **mariadb_settings)


class TestMariaDB(ReaderContract):
    reading_examples = 60

    @pytest.fixture(autouse=True)
    def _database(self, mariadb_database: Any) -> None:
        self.database = mariadb_database

    def make_backend(self) -> DjangoDBBackend:
        self.database.empty()
        return DjangoDBBackend("default", {"ALIAS": self.database.alias})
