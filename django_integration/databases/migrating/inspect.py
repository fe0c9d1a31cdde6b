"""Compare the migrations with a database; change nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.db import Error, connections, router
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState

from tailrace.django_integration.databases.migrating.evidence import has_field, owns_table
from tailrace.django_integration.databases.migrating.journal import Journal
from tailrace.django_integration.databases.migrating.model import AliasPlan, Finding, Kind, Role
from tailrace.django_integration.databases.migrating.progress import progress_finding
from tailrace.django_integration.databases.migrating.schema import Schema
from tailrace.django_integration.databases.secrets import scrub
from tailrace.django_integration.databases.selection import legacy_aliases
from tailrace.django_integration.routers.replica import replica_aliases


def inspect_alias(alias: str, only_apps: Collection[str] = ()) -> AliasPlan:
    """Find what is pending and what is wrong on an alias.

    Args:
        alias: the alias.
        only_apps: app labels; empty means all that live there.

    Raises:
        CommandError: the migrations themselves do not fit together (two leaves, a bad history).
    """
    role = role_of(alias)
    if role is not Role.MIGRATED:
        return AliasPlan(alias=alias, role=role)
    try:
        connections[alias].ensure_connection()
        return _inspect(alias, only_apps)
    except (Error, ImproperlyConfigured) as error:
        connections[alias].close()
        return AliasPlan(alias=alias, role=Role.DOWN, detail=scrub(error).strip())


def role_of(alias: str) -> Role:
    """Say what an alias is to migrations."""
    if alias in replica_aliases():
        return Role.REPLICA
    if alias in legacy_aliases():
        return Role.LEGACY
    return Role.MIGRATED


def apps_at_home(executor: MigrationExecutor, alias: str) -> list[str]:
    """List the apps with migrations that have something to do on an alias."""
    return [
        label
        for label in sorted(executor.loader.migrated_apps)
        if _lives_on(alias, label) or _is_sent_to(executor, alias, label)
    ]


def state_before(executor: MigrationExecutor, key: tuple[str, str]) -> ProjectState:
    """Return the state of all models just before a migration."""
    state = ProjectState(real_apps=executor.loader.unmigrated_apps)
    for migration, _ in executor.migration_plan([key], clean_start=True):
        if (migration.app_label, migration.name) == key:
            break
        migration.mutate_state(state, preserve=False)
    return state


def _inspect(alias: str, only_apps: Collection[str]) -> AliasPlan:
    executor = MigrationExecutor(connections[alias])
    _require_consistent(executor, alias)
    at_home = [label for label in apps_at_home(executor, alias) if label in (only_apps or [label])]
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] in at_home]
    plan = AliasPlan(alias=alias, pending={label: [] for label in at_home})
    pending = [migration for migration, _ in executor.migration_plan(targets)]
    for migration in pending:
        if migration.app_label in plan.pending:
            plan.pending[migration.app_label].append(migration.name)
        else:
            plan.guests += 1
    schema = Schema(connections[alias])
    plan.findings += _missing(executor, targets, schema, at_home)
    plan.findings += _unfinished(executor, pending, schema, at_home)
    return plan


def _require_consistent(executor: MigrationExecutor, alias: str) -> None:
    conflicts = executor.loader.detect_conflicts()
    if conflicts:
        named = "; ".join(f"{', '.join(names)} in {app}" for app, names in conflicts.items())
        raise CommandError(
            f"Two migrations claim to be the last ({named}). Run makemigrations --merge."
        )
    try:
        executor.loader.check_consistent_history(connections[alias])
    except InconsistentMigrationHistory as error:
        raise CommandError(f"{alias}: {error}") from error


def _lives_on(alias: str, label: str) -> bool:
    models = list(apps.get_app_config(label).get_models(include_auto_created=True))
    if not models:
        return bool(router.allow_migrate(alias, label))
    return any(router.allow_migrate_model(alias, model) for model in models)


def _is_sent_to(executor: MigrationExecutor, alias: str, label: str) -> bool:
    return any(
        (getattr(operation, "hints", None) or {}).get("target_db") == alias
        for key, migration in executor.loader.disk_migrations.items()
        if key[0] == label
        for operation in migration.operations
    )


def _missing(
    executor: MigrationExecutor, targets: list[Any], schema: Schema, at_home: Collection[str]
) -> Iterator[Finding]:
    """Find the tables and columns that recorded migrations made and that are not there."""
    state = applied_state(executor, targets)
    for model in state.apps.get_models(include_auto_created=True):
        label, meta = model._meta.app_label, model._meta
        if label not in at_home or not owns_table(model, schema):
            continue
        if not schema.has_table(meta.db_table):
            yield Finding(
                kind=Kind.RECORDED_BUT_MISSING,
                app=label,
                migration="",
                what=f"table {meta.db_table} of {meta.label} is not there",
                repair=f"creates the table {meta.db_table}, empty",
                table=meta.db_table,
            )
            continue
        for field in meta.local_concrete_fields:
            if has_field(model, field.name, schema) is False:
                yield Finding(
                    kind=Kind.RECORDED_BUT_MISSING,
                    app=label,
                    migration="",
                    what=f"column {field.column} of table {meta.db_table} is not there",
                    repair=f"adds the column {field.column} to {meta.db_table} with its default",
                    table=meta.db_table,
                    column=field.name,
                )


def applied_state(executor: MigrationExecutor, targets: list[Any]) -> ProjectState:
    """Return the state that the recorded migrations lead to."""
    state = ProjectState(real_apps=executor.loader.unmigrated_apps)
    for migration, _ in executor.migration_plan(targets, clean_start=True):
        if (migration.app_label, migration.name) in executor.loader.applied_migrations:
            migration.mutate_state(state, preserve=False)
    return state


def _unfinished(
    executor: MigrationExecutor, pending: list[Any], schema: Schema, at_home: Collection[str]
) -> Iterator[Finding]:
    """Find pending migrations that have already done something.

    Migrations run in order, so what follows one that is not complete has not begun.
    """
    journal = Journal(executor.connection).read()
    seen_incomplete: set[str] = set()
    for migration in pending:
        label = migration.app_label
        if label not in at_home or label in seen_incomplete:
            continue
        key = (label, migration.name)
        finding = progress_finding(migration, state_before(executor, key), schema, journal.get(key))
        if finding is None or finding.kind is not Kind.PRESENT_BUT_UNRECORDED:
            seen_incomplete.add(label)
        if finding is not None:
            yield finding
