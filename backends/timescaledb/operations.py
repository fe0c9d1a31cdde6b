"""Migration operations for TimescaleDB; import them from ``tailrace.backends.timescale``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import router
from django.db.migrations.operations.base import Operation

from tailrace.pipeline.interval import Interval, parse_interval

from .convert import to_hypertable
from .plain import to_plain_table
from .probe import probe


class CreateHypertable(Operation):
    """Make a table a TimescaleDB hypertable; its rows move into chunks.

    Works on the table of an ordinary Django model: the primary key ``(id)`` becomes
    ``(id, time)`` in the database, and stays ``id`` for Django, so that ``makemigrations`` sees
    no change. All happens in one transaction, under a lock.

    **Backwards**, all rows are copied into a plain table with the primary key, indexes,
    constraints, triggers, sequences and grants that it had; chunks, compression and policies go.
    Continuous aggregates must be dropped before.

    It runs on the alias that is being migrated, if ``allow_migrate`` of the routers lets the
    model's table be there.

    Args:
        table_name: Of the table: the model's ``Meta.db_table``.
        time_column: Its column of time, a ``DateTimeField`` or ``DateField``.
        chunk_time_interval: How much time one chunk holds; see ``tailrace.pipeline.interval``.
        if_not_exists: Leave a hypertable as it is, instead of raising.

    Raises:
        ValueError: an argument cannot be meant.
        NotSupportedByBackend: while migrating: it is no PostgreSQL, there is no TimescaleDB, or
            foreign keys or unique constraints forbid it. The message says what to do.
    """

    reduces_to_sql = False
    reversible = True

    def __init__(
        self,
        table_name: str,
        time_column: str = "timestamp",
        chunk_time_interval: str | timedelta | Interval = "7 days",
        if_not_exists: bool = True,
    ) -> None:
        for name, value in (("table_name", table_name), ("time_column", time_column)):
            if not isinstance(value, str) or not value or "\0" in value:
                raise ValueError(f"{name} is {value!r:.80}; write a name")
        self.table_name = table_name
        self.time_column = time_column
        self.chunk_time_interval = chunk_time_interval
        self.if_not_exists = if_not_exists
        self._chunk = parse_interval(chunk_time_interval)

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Change nothing: the model is the same."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Make the hypertable."""
        connection = schema_editor.connection
        if self._is_allowed(app_label, connection.alias, to_state):
            to_hypertable(
                connection,
                probe(connection),
                self.table_name,
                self.time_column,
                self._chunk,
                if_not_exists=self.if_not_exists,
            )

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Copy the rows back into a plain table."""
        connection = schema_editor.connection
        if self._is_allowed(app_label, connection.alias, to_state):
            probe(connection).require_hypertables(f"table {self.table_name!r}")
            to_plain_table(connection, self.table_name, self.time_column)

    def describe(self) -> str:
        """Return what ``migrate`` shows."""
        return f"Make {self.table_name} a hypertable by {self.time_column}"

    @property
    def migration_name_fragment(self) -> str:
        """What a migration with this operation is called."""
        return f"{self.table_name.lower()}_hypertable"

    def _is_allowed(self, app_label: str, alias: str, state: Any) -> bool:
        for model in state.apps.get_models():
            if model._meta.db_table == self.table_name:
                return bool(self.allow_migrate_model(alias, model))
        return bool(router.allow_migrate(alias, app_label))
