"""Retention of rollups: buckets of a level go by age, where the next coarser one has their sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db import transaction

from tailrace.backends.rollups import log
from tailrace.backends.rollups.declaration import from_text
from tailrace.backends.rollups.grid import grid_of
from tailrace.backends.rollups.ranges import MIN_US, Range, common, us_of
from tailrace.pipeline.faults import fault
from tailrace.pipeline.retention import Policy, level_policy
from tailrace.pipeline.rollup import Rollup

from .floor import settled
from .slices import Pace


@dataclass(frozen=True)
class LevelDue:
    """A level whose old buckets are to go."""

    id: int
    name: str
    """``requests:1 hour``."""
    rollup: Rollup
    level: int
    before_us: int

    @property
    def cuts(self) -> list[Callable[[int], int]]:
        """What a time has to be left alone by, to be in the middle of no bucket."""
        return _cuts(self.rollup, self.level)


def due_levels(backend: Any, policies: Mapping[str, Policy], now: datetime) -> list[LevelDue]:
    """Return the levels that a policy is about, with how far it would go."""
    found = []
    for row in _objects(backend.get_db_alias(), "RollupLevel").filter(backend=backend.alias):
        rollup = from_text(row.rollup, row.declaration)
        policy = level_policy(policies, rollup, row.level)
        if policy is None or policy.drop_after is None:
            continue
        wanted_us = us_of(policy.drop_after.before(now).astimezone(UTC))
        before_us = settled(wanted_us, _cuts(rollup, row.level))
        name = f"rollup:{rollup.level_name(row.level)}"
        found.append(LevelDue(row.id, name, rollup, row.level, before_us))
    return found


def sweep(
    backend: Any,
    policies: Mapping[str, Policy],
    now: datetime,
    pace: Pace,
    keeps_on: Callable[[], bool],
) -> Iterator[tuple[str, int]]:
    """Delete the buckets that are due, in slices.

    Args:
        backend: An ORM backend, connected.
        policies: Of the settings, by target.
        now: Aware.
        pace: How fast.
        keeps_on: Asked before each slice.

    Yields:
        The name of a level, and how many of its buckets went.
    """
    for due in due_levels(backend, policies, now):
        if not keeps_on():
            return
        before_us = _raise_floor(backend, due)
        fault("after_level_floor")
        buckets = _objects(backend.get_db_alias(), "RollupBucket").filter(
            level_id=due.id, bucket_us__lt=before_us
        )
        while keeps_on():
            rows = pace.timed(lambda size, b=buckets: _delete(b, size))  # type: ignore[misc]
            if not rows:
                break
            yield due.name, rows


def _raise_floor(backend: Any, due: LevelDue) -> int:
    """Say how far the level goes back from now on, to refreshes and reads; return it."""
    using = backend.get_db_alias()
    levels = _objects(using, "RollupLevel").filter(backend=backend.alias, rollup=due.rollup.name)
    sources = _objects(using, "RollupSource").filter(backend=backend.alias)
    with transaction.atomic(using=using):
        # Sources before levels: refreshes take them in this order.
        name = levels.filter(id=due.id).values_list("source", flat=True).first()
        source = sources.filter(source=name).select_for_update().first()
        by_level = {row.level: row for row in levels.select_for_update().order_by("level")}
        row = by_level.get(due.level)
        if source is None or row is None or row.id != due.id:
            return MIN_US  # declared anew in the meantime
        coarser = by_level.get(due.level + 1)
        before_us = due.before_us
        if coarser is not None:
            valid_us = _valid_until(using, source, coarser, row.floor_us, before_us)
            before_us = settled(valid_us, due.cuts)
        if row.floor_us < before_us:
            row.floor_us = before_us
            row.save(using=using, update_fields=["floor_us"])
    return before_us


def _valid_until(using: str, source: Any, coarser: Any, low_us: int, high_us: int) -> int:
    """Return the first time in a range from which on a level has not what the finer one has."""
    high_us = min(high_us, source.threshold_us)
    owners = [log.level_owner(coarser.id), log.source_owner(source.id)]
    # Before the finer level's floor nothing is there that could be lost.
    waiting = common(log.ranges_of(using, owners), [Range(low_us, high_us)])
    return waiting[0].low if waiting else high_us


def _cuts(rollup: Rollup, level: int) -> list[Callable[[int], int]]:
    widths = rollup.widths[level : level + 2]
    return [grid_of(width, rollup.zone_name).floor for width in widths]


def _delete(buckets: Any, size: int) -> int:
    ids = list(buckets.order_by("bucket_us").values_list("id", flat=True)[:size])
    if not ids:
        return 0
    chosen = buckets.model._base_manager.using(buckets.db).filter(id__in=ids)
    return int(chosen._raw_delete(buckets.db))


def _objects(using: str, model: str) -> Any:
    return apps.get_model("tailrace", model)._base_manager.using(using)
