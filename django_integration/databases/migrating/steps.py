"""Run one migration operation by operation, so that a cut can be mended."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from django.db import connections, router
from django.db.migrations import operations as ops
from django.db.migrations.executor import MigrationExecutor

from tailrace.django_integration.databases.migrating.inspect import state_before
from tailrace.django_integration.databases.migrating.journal import Journal
from tailrace.django_integration.databases.migrating.schema import Schema

_BUILT_CONCURRENTLY = re.compile(
    r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    r"(?P<name>\"(?:[^\"]|\"\")+\"|\w+)\s+ON\b",
    re.IGNORECASE,
)


def needs_steps(migration: Any, connection: Any) -> bool:
    """Say whether a cut in the middle of the migration would leave something behind."""
    return not migration.atomic or not connection.features.can_rollback_ddl


def run_steps(alias: str, key: tuple[str, str], done: Collection[int] = ()) -> None:
    """Run the operations of a migration that are not done, and record it.

    Args:
        alias: the alias.
        key: app label and name.
        done: indexes of the operations that have run.
    """
    connection = connections[alias]
    executor = MigrationExecutor(connection)
    migration = executor.loader.get_migration(*key)
    state = state_before(executor, key)
    journal = Journal(connection)
    executor.recorder.ensure_schema()
    for index, operation in enumerate(migration.operations):
        after = state.clone()
        operation.state_forwards(migration.app_label, after)
        if index not in done:
            journal.begin(*key, index)
            _run_operation(connection, migration, operation, state, after)
        elif index + 1 == len(done):
            journal.begin(*key, index)
        journal.finish(*key, index)
        state = after
    executor.record_migration(migration)
    journal.forget(*key)


def _run_operation(
    connection: Any, migration: Any, operation: Any, before: Any, after: Any
) -> None:
    _drop_broken_indexes(connection, operation, migration.app_label)
    # An editor each: what Django defers to the end of a migration (keys, indexes) then belongs to
    # the operation that wanted it.
    with connection.schema_editor(atomic=_is_atomic(connection, migration, operation)) as editor:
        operation.database_forwards(migration.app_label, editor, before, after)


def _is_atomic(connection: Any, migration: Any, operation: Any) -> bool:
    if not connection.features.can_rollback_ddl:
        return False
    if isinstance(operation, (ops.RunPython, ops.RunSQL, ops.SeparateDatabaseAndState)):
        return bool(operation.atomic or migration.atomic)
    # Django's own changes of the schema can all be rolled back. Others may be there just because
    # they cannot: AddIndexConcurrently.
    is_core = type(operation).__module__.startswith("django.db.migrations.operations")
    return is_core or bool(operation.atomic or migration.atomic)


def _drop_broken_indexes(connection: Any, operation: Any, app_label: str) -> None:
    """Drop what a ``CREATE INDEX CONCURRENTLY`` that was cut off left under the same name.

    The statement would fail on it or, with ``IF NOT EXISTS``, be content with it: the migration
    would be recorded, and the index never be used.
    """
    names = list(_indexes_of(operation))
    hints = getattr(operation, "hints", None) or {}
    if not names or not router.allow_migrate(connection.alias, app_label, **hints):
        return
    invalid = Schema(connection).invalid_indexes
    for name in names:
        if name.lower() in invalid:
            quoted = connection.ops.quote_name(name)
            with connection.cursor() as cursor:
                cursor.execute("DROP INDEX CONCURRENTLY IF EXISTS " + quoted)


def _indexes_of(operation: Any) -> Iterator[str]:
    """Name the indexes that an operation may build concurrently, as the catalogue has them."""
    if isinstance(operation, ops.AddIndex):
        yield operation.index.name
    elif isinstance(operation, ops.SeparateDatabaseAndState):
        for inner in operation.database_operations:
            yield from _indexes_of(inner)
    elif isinstance(operation, ops.RunSQL):
        parts = [operation.sql] if isinstance(operation.sql, str) else operation.sql
        for part in parts:
            # Django takes a statement, or a statement with its parameters.
            statement = part if isinstance(part, str) else part[0]
            for match in _BUILT_CONCURRENTLY.finditer(statement):
                yield _catalogue_name(match["name"])


def _catalogue_name(written: str) -> str:
    if written.startswith('"'):
        return written[1:-1].replace('""', '"')
    return written.lower()
