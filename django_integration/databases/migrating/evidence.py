"""Whether an operation of a migration has run, told by what it leaves in the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import router
from django.db.migrations import operations as ops
from django.db.migrations.state import ProjectState
from django.db.models import Model

from tailrace.django_integration.databases.migrating.schema import Schema

#: True: it has run. False: it has not. None: it leaves no trace, or not on this alias.
Evidence = bool | None


def evidence_of(
    operation: Any, app_label: str, before: ProjectState, after: ProjectState, schema: Schema
) -> Evidence:
    """Look for the trace of one operation.

    Args:
        operation: the operation.
        app_label: app of its migration.
        before: state that the operation starts from.
        after: state that it leads to.
        schema: what the database has.
    """
    for kind, look in _LOOKS.items():
        if isinstance(operation, kind):
            return look(operation, app_label, before, after, schema)
    return None


def reruns_safely(operation: Any) -> bool:
    """Say whether an operation without a trace may run again for sure: all but code and SQL."""
    return not isinstance(operation, (ops.RunPython, ops.RunSQL, ops.SeparateDatabaseAndState))


def _model(state: ProjectState, app_label: str, name: str, schema: Schema) -> type[Model] | None:
    """Return a model whose table is this alias's business."""
    if (app_label, name.lower()) not in state.models:
        return None
    model = state.apps.get_model(app_label, name)
    return model if owns_table(model, schema) else None


def owns_table(model: type[Model], schema: Schema) -> bool:
    """Say whether migrations keep a table for the model on the snapshot's alias."""
    meta = model._meta
    if not meta.managed or meta.proxy or meta.swapped:
        return False
    return bool(router.allow_migrate_model(schema.connection.alias, model))


def _created(op: Any, label: str, before: Any, after: Any, schema: Schema) -> Evidence:
    model = _model(after, label, op.name, schema)
    return None if model is None else schema.has_table(model._meta.db_table)


def _deleted(op: Any, label: str, before: Any, after: Any, schema: Schema) -> Evidence:
    model = _model(before, label, op.name, schema)
    return None if model is None else not schema.has_table(model._meta.db_table)


def _field_added(op: Any, label: str, before: Any, after: Any, schema: Schema) -> Evidence:
    model = _model(after, label, op.model_name, schema)
    return None if model is None else has_field(model, op.name, schema)


def _field_removed(op: Any, label: str, before: Any, after: Any, schema: Schema) -> Evidence:
    model = _model(before, label, op.model_name, schema)
    if model is None or not schema.has_table(model._meta.db_table):
        return None
    found = has_field(model, op.name, schema)
    return None if found is None else not found


def _field_renamed(op: Any, label: str, before: Any, after: Any, schema: Schema) -> Evidence:
    old, new = (
        _model(before, label, op.model_name, schema),
        _model(after, label, op.model_name, schema),
    )
    if old is None or new is None:
        return None
    was, now = (
        old._meta.get_field(op.old_name).column,
        new._meta.get_field(op.new_name).column,
    )
    if was is None or was == now:
        return None
    return schema.has_column(new._meta.db_table, now)


def _table_renamed(op: Any, label: str, before: Any, after: Any, schema: Schema) -> Evidence:
    old_name = getattr(op, "old_name", None) or op.name
    new_name = getattr(op, "new_name", None) or op.name
    old, new = _model(before, label, old_name, schema), _model(after, label, new_name, schema)
    if old is None or new is None or old._meta.db_table == new._meta.db_table:
        return None
    return schema.has_table(new._meta.db_table)


def _named(name_of: Callable[[Any], str], *, is_there: bool) -> Callable[..., Evidence]:
    def look(op: Any, label: str, before: Any, after: Any, schema: Schema) -> Evidence:
        model = _model(before, label, op.model_name, schema)
        if model is None or not schema.has_table(model._meta.db_table):
            return None
        return schema.has_constraint(model._meta.db_table, name_of(op)) is is_there

    return look


def has_field(model: type[Model], name: str, schema: Schema) -> Evidence:
    """Say whether a field has its column, or its table if it is many-to-many."""
    field = model._meta.get_field(name)
    if field.many_to_many:
        through = field.remote_field.through
        return schema.has_table(through._meta.db_table) if through._meta.auto_created else None
    if field.column is None:
        return None
    return schema.has_column(model._meta.db_table, field.column)


_LOOKS: dict[type, Callable[..., Evidence]] = {
    ops.CreateModel: _created,
    ops.DeleteModel: _deleted,
    ops.AddField: _field_added,
    ops.RemoveField: _field_removed,
    ops.RenameField: _field_renamed,
    ops.RenameModel: _table_renamed,
    ops.AlterModelTable: _table_renamed,
    ops.AddIndex: _named(lambda op: op.index.name, is_there=True),
    ops.RemoveIndex: _named(lambda op: op.name, is_there=False),
    ops.RenameIndex: _named(lambda op: op.new_name, is_there=True),
    ops.AddConstraint: _named(lambda op: op.constraint.name, is_there=True),
    ops.RemoveConstraint: _named(lambda op: op.name, is_there=False),
}
