"""How far a pending migration has already got."""

from __future__ import annotations

from typing import Any

from django.db.migrations import operations as ops
from django.db.migrations.state import ProjectState

from tailrace.django_integration.databases.migrating.evidence import (
    Evidence,
    evidence_of,
    reruns_safely,
)
from tailrace.django_integration.databases.migrating.journal import Progress
from tailrace.django_integration.databases.migrating.model import Finding, Kind
from tailrace.django_integration.databases.migrating.schema import Schema

_MAKES = (ops.CreateModel, ops.AddField, ops.AddIndex, ops.AddConstraint)
_UNMAKES = (ops.DeleteModel, ops.RemoveField, ops.RemoveIndex, ops.RemoveConstraint)


def progress_finding(
    migration: Any, before: ProjectState, schema: Schema, noted: Progress | None
) -> Finding | None:
    """Say what is wrong with a pending migration, or ``None`` if it has not begun.

    Args:
        migration: the migration.
        before: state of all models before it.
        schema: what the database has.
        noted: what the journal says of it.
    """
    traces = _traces(migration, before, schema)
    if noted is not None:
        return _cut_off(migration, traces, noted)
    last = max((index for index, trace in enumerate(traces) if trace is True), default=None)
    if last is None:
        return None
    # Operations run in order: what stands before the last trace has run, unless its own trace
    # is missing.
    done = {index for index in range(last + 1) if not _is_lost(migration, traces, index)}
    if all(trace is not False for trace in traces) and len(done) >= last + 1:
        blind = [op for op in migration.operations[last + 1 :] if not reruns_safely(op)]
        if not blind:
            return _unrecorded(migration)
    return _half_applied(migration, frozenset(done))


def _traces(migration: Any, before: ProjectState, schema: Schema) -> list[Evidence]:
    traces: list[Evidence] = []
    state = before.clone()
    at_start = before.clone()
    for operation in migration.operations:
        after = state.clone()
        operation.state_forwards(migration.app_label, after)
        trace = evidence_of(operation, migration.app_label, state, after, schema)
        if trace is True and isinstance(operation, _UNMAKES):
            # What this migration makes and unmakes is also absent when it has not begun.
            trace = _was_there(operation, migration.app_label, at_start)
        traces.append(trace)
        state = after
    return traces


def _was_there(operation: Any, app_label: str, at_start: ProjectState) -> Evidence:
    name = operation.name if isinstance(operation, ops.DeleteModel) else operation.model_name
    return True if (app_label, name.lower()) in at_start.models else None


def _is_lost(migration: Any, traces: list[Evidence], index: int) -> bool:
    return traces[index] is False and isinstance(migration.operations[index], _MAKES)


def _cut_off(migration: Any, traces: list[Evidence], noted: Progress) -> Finding:
    done = set(range(noted.finished))
    started = noted.started if noted.started is not None else noted.finished
    if started < len(traces) and traces[started] is True:
        done.add(started)
    total = len(migration.operations)
    if started < total and started not in done:
        name = _describe(migration.operations[started])
        what = (
            f"{len(done)} of {total} operations done; cut off in operation {started + 1} ({name})"
        )
        repair = f"runs operation {started + 1} ({name}) again and the rest, and records it"
    else:
        what = f"{len(done)} of {total} operations done; cut off after operation {len(done)}"
        repair = f"runs the other {total - len(done)} operations, and records it"
    return Finding(
        kind=Kind.CUT_OFF,
        app=migration.app_label,
        migration=migration.name,
        what=what,
        repair=repair,
        done=frozenset(done),
    )


def _unrecorded(migration: Any) -> Finding:
    blind = [_describe(op) for op in migration.operations if not reruns_safely(op)]
    without = f"; does not run its {', '.join(blind)} again" if blind else ""
    return Finding(
        kind=Kind.PRESENT_BUT_UNRECORDED,
        app=migration.app_label,
        migration=migration.name,
        what="everything that it makes is there, and no record of it",
        repair=f"records it as applied{without}",
        done=frozenset(range(len(migration.operations))),
    )


def _half_applied(migration: Any, done: frozenset[int]) -> Finding:
    rest = [
        f"{index + 1} ({_describe(operation)})"
        for index, operation in enumerate(migration.operations)
        if index not in done
    ]
    return Finding(
        kind=Kind.HALF_APPLIED,
        app=migration.app_label,
        migration=migration.name,
        what=f"{len(done)} of {len(migration.operations)} operations done, and no record of it",
        repair=f"runs operation {', '.join(rest)}, and records it",
        done=done,
    )


def _describe(operation: Any) -> str:
    return f"{type(operation).__name__}: {operation.describe()}"
