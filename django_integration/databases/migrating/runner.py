"""Migrate one alias after the other, each under its lock; a failure of one stops no other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import Error, connections
from django.db.migrations.executor import MigrationExecutor

from tailrace.django_integration.databases.migrating.inspect import inspect_alias
from tailrace.django_integration.databases.migrating.model import AliasPlan, Finding, Role
from tailrace.django_integration.databases.migrating.repair import repair
from tailrace.django_integration.databases.migrating.steps import needs_steps, run_steps
from tailrace.django_integration.databases.secrets import scrub
from tailrace.django_integration.databases.selection import select_aliases
from tailrace.django_integration.databases.vendors import vendor_of

LOCK_NAME = "tailrace-migrate"
#: A deploy may well wait for the long migration of another one.
DEFAULT_LOCK_TIMEOUT_SECONDS = 600.0

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of one alias.

    Args:
        alias: the alias.
        applied: migrations that ran, ``app.name``.
        repaired: findings that were put right.
        problems: what kept it from ending clean, in sentences.
    """

    alias: str
    applied: list[str] = field(default_factory=list)
    repaired: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inspect_all(aliases: Iterable[str] | None, only_apps: Collection[str] = ()) -> list[AliasPlan]:
    """Inspect the aliases; of two that are one database, the first is looked at."""
    plans: list[AliasPlan] = []
    seen: dict[object, str] = {}
    for alias in select_aliases(aliases):
        config = connections[alias].settings_dict
        place = tuple(str(config.get(key, "")) for key in ("ENGINE", "HOST", "PORT", "NAME"))
        plan = inspect_alias(alias, only_apps)
        if plan.role is Role.MIGRATED and place in seen:
            plan = AliasPlan(alias=alias, role=Role.SAME_DATABASE, detail=seen[place])
        elif plan.role is Role.MIGRATED:
            seen[place] = alias
        plans.append(plan)
    return plans


def run_alias(
    alias: str,
    *,
    only_apps: Collection[str] = (),
    repairs: bool = False,
    say: Say,
    lock_timeout_seconds: float = DEFAULT_LOCK_TIMEOUT_SECONDS,
) -> Result:
    """Lock an alias, look at it again, mend it and migrate it.

    Args:
        alias: the alias.
        only_apps: app labels; empty means all that live there.
        repairs: also repair what is inferred, not only what our journal says.
        say: told what happens.
        lock_timeout_seconds: how long to wait for another run.
    """
    result = Result(alias=alias)
    try:
        connection = connections[alias]
        waiting = f"{alias}: another run is migrating this database; waiting for it."
        lock = vendor_of(connection).lock(LOCK_NAME, lock_timeout_seconds, lambda: say(waiting))
        with lock:
            _run_locked(alias, only_apps, repairs, say, result)
    except (Error, CommandError, ImproperlyConfigured, TimeoutError, OSError) as error:
        result.problems.append(scrub(error).strip())
    # A migration's own code raises what it likes, and the other aliases still get their turn.
    except Exception as error:  # noqa: BLE001
        result.problems.append(scrub(f"{type(error).__name__}: {error}"))
    finally:
        connections[alias].close()
    return result


def _run_locked(
    alias: str, only_apps: Collection[str], repairs: bool, say: Say, result: Result
) -> None:
    plan = inspect_alias(alias, only_apps)
    if plan.role is Role.DOWN:
        result.problems.append(f"is down: {plan.detail}")
        return
    mendable = [finding for finding in plan.findings if repairs or finding.is_mended_by_any_run]
    for finding in mendable:
        say(f"{alias}: {_name(finding)} {finding.repair}.")
    result.repaired = repair(alias, mendable)
    if mendable:
        plan = inspect_alias(alias, only_apps)
    blocked = {finding.app for finding in plan.findings}
    for finding in plan.findings:
        result.problems.append(
            f"{_name(finding)} is {finding.kind}: {finding.what}. --repair {finding.repair}."
        )
    labels = [label for label, names in plan.pending.items() if names and label not in blocked]
    for run in _batches(alias, labels):
        run(say, result)


def _name(finding: Finding) -> str:
    return f"{finding.app}.{finding.migration}" if finding.migration else finding.app


def _batches(alias: str, labels: Collection[str]) -> Iterator[Callable[[Say, Result], None]]:
    """Cut the plan into what Django's ``migrate`` can run and what is run in steps."""
    executor = MigrationExecutor(connections[alias])
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] in labels]
    batch: dict[str, list[str]] = {}
    for migration, _ in executor.migration_plan(targets):
        label, name = migration.app_label, migration.name
        if label in labels and needs_steps(migration, connections[alias]):
            yield from _django_runs(alias, batch)
            batch = {}
            yield _steps_run(alias, label, name)
        elif label in labels:
            batch.setdefault(label, []).append(name)
    yield from _django_runs(alias, batch)


def _django_runs(
    alias: str, batch: dict[str, list[str]]
) -> Iterator[Callable[[Say, Result], None]]:
    for label, names in batch.items():

        def run(say: Say, result: Result, label: str = label, names: list[str] = names) -> None:
            say(f"{alias}: {label} {', '.join(names)}")
            _migrate(alias, label, names[-1])
            result.applied += [f"{label}.{name}" for name in names]

        yield run


def _steps_run(alias: str, label: str, name: str) -> Callable[[Say, Result], None]:
    def run(say: Say, result: Result) -> None:
        say(f"{alias}: {label} {name}, in steps")
        run_steps(alias, (label, name))
        # Nothing is left to apply; this sends the signals that make content types, permissions.
        _migrate(alias, label, name)
        result.applied.append(f"{label}.{name}")

    return run


def _migrate(alias: str, label: str, name: str) -> None:
    call_command(
        "migrate", label, name, database=alias, interactive=False, verbosity=0, skip_checks=True
    )
