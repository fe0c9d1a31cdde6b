"""How far a migration got that no transaction protects.

A migration with ``atomic = False``, and every migration on an engine that cannot roll back DDL,
can be cut off between two operations. Before and after each operation we write it down in a table
of the same database. The table is there only while such a migration is under way: one that is
found later is the trace of a run that was cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps.registry import Apps
from django.db import models

TABLE = "tailrace_migration_journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the journal says of one migration.

    Args:
        finished: operations that ended, counted from the first.
        started: index of the operation that began and did not end, or ``None``.
    """

    finished: int
    started: int | None


@cache
def _step_model() -> type[models.Model]:
    class Step(models.Model):
        """One operation of one migration."""

        app = models.CharField(max_length=255)
        name = models.CharField(max_length=255)
        operation = models.IntegerField()
        is_finished = models.BooleanField(default=False)

        class Meta:
            apps = Apps()
            app_label = "tailrace_journal"
            db_table = TABLE

        def __str__(self) -> str:
            return f"{self.app}.{self.name} {self.operation}"

    return Step


class Journal:
    """The journal of one database.

    Args:
        connection: a Django connection.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._steps = _step_model()._base_manager.using(connection.alias)

    def read(self) -> dict[tuple[str, str], Progress]:
        """Return the progress of every migration that was cut off."""
        if not self._exists():
            return {}
        found: dict[tuple[str, str], Progress] = {}
        for step in self._steps.order_by("app", "name", "operation"):
            key = (step.app, step.name)
            held = found.get(key, Progress(finished=0, started=None))
            found[key] = (
                Progress(finished=step.operation + 1, started=held.started)
                if step.is_finished
                else Progress(finished=held.finished, started=step.operation)
            )
        return found

    def begin(self, app: str, name: str, operation: int) -> None:
        """Write down that an operation is about to run."""
        if not self._exists():
            with self._connection.schema_editor() as editor:
                editor.create_model(_step_model())
        self._steps.update_or_create(
            app=app, name=name, operation=operation, defaults={"is_finished": False}
        )

    def finish(self, app: str, name: str, operation: int) -> None:
        """Write down that it has run."""
        self._steps.filter(app=app, name=name, operation=operation).update(is_finished=True)

    def forget(self, app: str, name: str) -> None:
        """Drop what was written of a migration, and the table with the last one."""
        if not self._exists():
            return
        self._steps.filter(app=app, name=name).delete()
        if not self._steps.exists():
            with self._connection.schema_editor() as editor:
                editor.delete_model(_step_model())

    def _exists(self) -> bool:
        with self._connection.cursor() as cursor:
            return TABLE in self._connection.introspection.table_names(cursor)
