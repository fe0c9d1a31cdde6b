from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract.mariadb_server import MariaDBServer, NoMariaDB, use_pymysql

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.testing import WriterContract
from tailrace.backends.testing.frames import make_event
from tailrace.pipeline.event import Event


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDBServer]:
    try:
        use_pymysql()
        server = MariaDBServer()
    except NoMariaDB as error:
        pytest.skip(str(error))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def mariadb_database(add_alias: Callable[..., Any], mariadb: MariaDBServer) -> Any:
    import MySQLdb

    with MySQLdb.connect(unix_socket=str(mariadb.socket), user=mariadb.user) as connection:
        connection.cursor().execute("CREATE DATABASE contract CHARACTER SET utf8mb4")
    return add_alias(
        "contract_mariadb",
        ENGINE="django.db.backends.mysql",
        NAME="contract",
        USER=mariadb.user,
        HOST=str(mariadb.socket),
        OPTIONS={"charset": "utf8mb4"},
    )


class TestDjangoDBOnMariaDB(WriterContract):
    examples = 20

    @pytest.fixture(autouse=True)
    def _database(self, mariadb_database: Any) -> None:
        self.database = mariadb_database

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
