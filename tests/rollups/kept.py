"""Rollups as a refresh would leave them, made without one: for the tests of reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps

from tailrace.backends.private_connection import private_connection
from tailrace.backends.rollups.declaration import to_text
from tailrace.backends.rollups.grid import grid_of
from tailrace.backends.rollups.groups import group_text
from tailrace.backends.rollups.partial import Partial
from tailrace.backends.rollups.ranges import MAX_US, MIN_US, Range, common
from tailrace.backends.rollups.statement import PartialQuery, partials, source_of, table_of
from tailrace.pipeline.rollup import Rollup

from .stores import Store

LIE = 1_000_000
"""What is added to counts of buckets that no answer may be made of."""


@dataclass(frozen=True)
class State:
    """How far refreshes have come, and what has happened since."""

    threshold_us: int = MAX_US
    source_log: tuple[Range, ...] = ()
    level_logs: tuple[tuple[Range, ...], ...] = ()
    """By level; those that have none may be left out."""
    floors_us: tuple[int, ...] = ()


def keep(store: Store, rollup: Rollup, state: State, source: Any = None) -> list[int]:
    """Compute all levels of a rollup, and spoil what a state says is wrong with them.

    Returns:
        The ids of its levels.
    """
    manager = apps.get_model("tailrace", "RollupSource")._base_manager.using(store.alias)
    row = manager.create(
        backend="default", source=rollup.source, threshold_us=state.threshold_us, floor_us=MIN_US
    )
    note(store, f"source:{row.id}", state.source_log)
    cells: dict[Any, Partial] = {}
    with private_connection(store.alias) as connection:
        table = table_of(connection, source or source_of(rollup.source))
        for cell in partials(table, PartialQuery.of_rollup(rollup), [(MIN_US, MAX_US)]):
            cells[cell.bucket_us, group_text(cell.group), cell.field] = cell.partial
    ids = []
    for level in range(len(rollup.widths)):
        if level:
            cells = _coarser(rollup, level, cells)
        ids.append(_keep_level(store, rollup, level, cells, state))
    return ids


def note(store: Store, owner: str, ranges: Sequence[Range]) -> None:
    """Write into the log."""
    model = apps.get_model("tailrace", "RollupInvalidation")
    model._base_manager.using(store.alias).bulk_create(
        model(owner=owner, low_us=low, high_us=high) for low, high in ranges
    )


def _coarser(rollup: Rollup, level: int, cells: dict[Any, Partial]) -> dict[Any, Partial]:
    grid = grid_of(rollup.widths[level], rollup.zone_name)
    bucket_of = grid.bucket_of(bucket_us for bucket_us, _, _ in cells)
    made: dict[Any, Partial] = {}
    for (bucket_us, group, field), partial in cells.items():
        made.setdefault((bucket_of[bucket_us], group, field), Partial()).merge(partial)
    return made


def _keep_level(
    store: Store, rollup: Rollup, level: int, cells: dict[Any, Partial], state: State
) -> int:
    floor_us = state.floors_us[level] if level < len(state.floors_us) else MIN_US
    log = state.level_logs[level] if level < len(state.level_logs) else ()
    model = apps.get_model("tailrace", "RollupLevel")
    row = model._base_manager.using(store.alias).create(
        backend="default",
        rollup=rollup.name,
        level=level,
        source=rollup.source,
        fingerprint=rollup.fingerprint(level),
        declaration=to_text(rollup),
        floor_us=floor_us,
    )
    note(store, f"level:{row.id}", log)
    grid = grid_of(rollup.widths[level], rollup.zone_name)
    buckets = []
    bucket_model = apps.get_model("tailrace", "RollupBucket")
    for (bucket_us, group, field), partial in cells.items():
        whole = Range(grid.floor(bucket_us), grid.after(grid.floor(bucket_us)))
        bad = [*state.source_log, *log, Range(state.threshold_us, MAX_US), Range(MIN_US, floor_us)]
        columns = partial.to_columns()
        if any(common([whole], [each]) for each in bad if each.low < each.high):
            columns = {**columns, "count": columns["count"] + LIE, "whole_sum": str(LIE)}
            columns |= {"wholes": 1, "whole_max": LIE, "sketch": None}
        buckets.append(
            bucket_model(level_id=row.id, bucket_us=bucket_us, group=group, field=field, **columns)
        )
    bucket_model._base_manager.using(store.alias).bulk_create(buckets, batch_size=500)
    return int(row.id)
