"""Put right what was found, as the finding's statement says and no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from tailrace.django_integration.databases.migrating.inspect import applied_state, apps_at_home
from tailrace.django_integration.databases.migrating.model import Finding, Kind
from tailrace.django_integration.databases.migrating.steps import run_steps


def repair(alias: str, findings: Iterable[Finding]) -> list[Finding]:
    """Repair findings of one alias, in an order that works; return those that were repaired.

    Missing tables come first: the rest of a half-applied migration may refer to them.
    """
    found = list(findings)
    missing = [finding for finding in found if finding.kind is Kind.RECORDED_BUT_MISSING]
    _make_missing(alias, missing)
    for finding in found:
        key = (finding.app, finding.migration)
        if finding.kind in (Kind.HALF_APPLIED, Kind.CUT_OFF):
            run_steps(alias, key, finding.done)
        elif finding.kind is Kind.PRESENT_BUT_UNRECORDED:
            executor = MigrationExecutor(connections[alias])
            executor.recorder.ensure_schema()
            executor.record_migration(executor.loader.get_migration(*key))
    return found


def _make_missing(alias: str, findings: list[Finding]) -> None:
    if not findings:
        return
    connection = connections[alias]
    executor = MigrationExecutor(connection)
    at_home = apps_at_home(executor, alias)
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] in at_home]
    state = applied_state(executor, targets)
    by_table = {
        model._meta.db_table: model for model in state.apps.get_models(include_auto_created=True)
    }
    with connection.schema_editor() as editor:
        made: set[str] = set()
        for finding in findings:
            _make(editor, by_table[finding.table], finding, made)


def _make(editor: Any, model: Any, finding: Finding, made: set[str]) -> None:
    if finding.column:
        editor.add_field(model, model._meta.get_field(finding.column))
    elif finding.table not in made:
        editor.create_model(model)
        # create_model() makes the tables of the many-to-many fields as well.
        made |= {finding.table}
        made |= {
            field.remote_field.through._meta.db_table for field in model._meta.local_many_to_many
        }
