"""The questions, and the honest answer of an engine that cannot tell."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any, ClassVar


class Answer(list[dict[str, Any]]):
    """Rows, and whether they are all there is to know.

    An empty list can mean "none" or "cannot tell". ``reason`` is empty in the first case and says
    in the second what is missing.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = (), *, reason: str = "") -> None:
        super().__init__(rows)
        self.reason = reason

    @property
    def is_known(self) -> bool:
        """Whether the engine could answer."""
        return not self.reason


class Vendor:
    """Questions to one connection. Every one has an answer; ``None`` means that it is not known.

    Args:
        connection: a Django connection.
    """

    #: Name for people, in the sentences that say what an engine cannot do.
    label: ClassVar[str] = "This engine"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def connection_count(self) -> int | None:
        """Count the connections to the database, ours among them."""
        return None

    def size_bytes(self) -> int | None:
        """Return the size of the database."""
        return None

    def slow_queries(self, limit: int) -> Answer:
        """List the statements that took the most time in total, worst first."""
        return Answer(reason=f"{self.label} keeps no statistics of statements.")

    def bloat(self, limit: int) -> Answer:
        """List the tables with the most space that a vacuum would give back or reuse."""
        return Answer(reason=f"{self.label} does not tell how much of a table is dead.")

    def server_version(self) -> str:
        """Return the server's version."""
        return ".".join(map(str, self.connection.get_database_version()))

    def vacuum(self) -> str:
        """Give back dead space and refresh the planner's statistics; say what was done."""
        return f"nothing to do: {self.label} has no vacuum"

    @contextmanager
    def lock(self, name: str, wait_seconds: float, on_wait: Any) -> Any:
        """Hold a lock that all processes on this database share.

        Args:
            name: the lock's name.
            wait_seconds: how long to wait for another holder.
            on_wait: called once, with nothing, if there is another holder.

        Raises:
            TimeoutError: the other holder kept it too long.
        """
        yield

    def has_transactional_ddl(self) -> bool:
        """Whether a migration that is cut off leaves nothing behind."""
        return bool(self.connection.features.can_rollback_ddl)

    def rows(self, statement: str, params: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        """Run a query and return its rows as dictionaries."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, params)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def value(self, statement: str, params: tuple[Any, ...] = ()) -> Any:
        """Run a query and return the first column of its first row, or ``None``."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, params)
            row = cursor.fetchone()
        return None if row is None else row[0]
