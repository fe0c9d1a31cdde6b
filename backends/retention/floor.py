"""How far retention may go: never before a rollup that has not computed what would be gone.

The order of things. What rollups wait for is refreshed first. Then, in a transaction that holds
the sources alone, so that no writer is in the middle of noting a late row, the floor moves: to
the time asked for, or to the first one that is still to be computed. Only after that commit rows
are deleted. From then on writers do not note, and refreshes do not compute, what is before the
floor: what a bucket says there, it says for good.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import transaction

from tailrace.backends.jobs import Lease
from tailrace.backends.rollups import log
from tailrace.backends.rollups.declaration import from_text
from tailrace.backends.rollups.declared import synchronise
from tailrace.backends.rollups.grid import Grid, grid_of
from tailrace.backends.rollups.ranges import MAX_US, MIN_US, Range, common
from tailrace.pipeline.faults import fault

_ROUNDS_MAX = 1_000


@dataclass(frozen=True)
class Floor:
    """How far a target's rows may go."""

    before_us: int
    waits_for: str = ""
    """Which rollup keeps it from going further."""


def prepare(backend: Any) -> list[str]:
    """Note rollups that were declared since: what they have not computed must not go.

    Returns:
        What had to be changed, a sentence each.
    """
    return synchronise(backend)


def refresh(
    backend: Any, sources: Collection[str], before_us: int, deadline: float, lease: Lease
) -> None:
    """Have rollups compute what they wait for before a time.

    Args:
        backend: An ORM backend, connected.
        sources: What rollups may call the rows.
        before_us: In microseconds since 1970.
        deadline: On ``time.monotonic()``.
        lease: Of the job that asks.

    Raises:
        ValueError: a rollup cannot be computed; says why.
    """
    if pending(str(backend.get_db_alias()), sources, before_us) is not None:
        for source in sources:
            backend.refresh_before(source, before_us, deadline, lease)


def raise_floor(using: str, sources: Collection[str], wanted_us: int) -> Floor:
    """Let retention go to a time, or as far as rollups let it; say so to writers and refreshes.

    Args:
        using: The database alias, on our own connection, with no transaction open.
        sources: What rollups may call the rows.
        wanted_us: Where to, in microseconds since 1970.

    Returns:
        Before which time rows may be deleted.
    """
    if not _sources(using, sources).exists():
        return Floor(wanted_us)
    with transaction.atomic(using=using):
        held = list(_sources(using, sources).select_for_update().order_by("id"))
        floor = _allowed(using, held, wanted_us)
        for source in held:
            if source.floor_us < floor.before_us:
                source.floor_us = floor.before_us
                source.save(using=using, update_fields=["floor_us"])
        fault("before_floor")
    fault("after_floor")
    return floor


def aligned(using: str, sources: Collection[str], wanted_us: int) -> int:
    """Return the last time at or before one that is in the middle of no bucket over the rows."""
    return _aligned(_finest(using, sources), wanted_us)


def at_odds(using: str, sources: Collection[str]) -> str:
    """Return what to do about rollups whose buckets never begin together."""
    names = ", ".join(sorted({repr(each.rollup) for each in _levels(using, sources)}))
    return (
        f"first buckets of the rollups {names} that begin together: there are none, so that "
        "nothing may go; give them a finer first entry of WIDTHS, or one TIME_ZONE"
    )


def pending(using: str, sources: Collection[str], before_us: int) -> Range | None:
    """Return what has to be refreshed before all up to a time may go, without a lock."""
    first: list[Range] = []
    for source in _sources(using, sources):
        logs = _logs(using, source)
        wanted = [Range(source.floor_us, before_us)]
        for _, ranges in logs:
            first += common(ranges, wanted)
        if logs and source.threshold_us < before_us:
            first.append(Range(max(source.threshold_us, source.floor_us), before_us))
    if not first:
        return None
    return Range(min(first).low, max(each.high for each in first))


def _allowed(using: str, held: list[Any], wanted_us: int) -> Floor:
    before_us, waits_for = wanted_us, ""
    for source in held:
        logs = _logs(using, source)
        if logs and source.threshold_us < before_us:
            before_us, waits_for = source.threshold_us, f"the refresh of {source.source}"
        for name, ranges in logs:
            # What is before the floor already stays in the log for ever.
            waiting = common(ranges, [Range(source.floor_us, before_us)])
            if waiting:
                before_us, waits_for = waiting[0].low, f"rollup {name}"
    names = [source.source for source in held]
    return Floor(_aligned(_finest(using, names), before_us), waits_for)


def _logs(using: str, source: Any) -> list[tuple[str, list[Range]]]:
    """Return what is to be computed from a source's rows, with the names of the rollups.

    What is before a level's own floor stays in its log for ever, and is nobody's loss.
    """
    levels = list(_levels(using, [source.source]).filter(backend=source.backend))
    if not levels:
        return []  # they are not declared any more
    late = log.ranges_of(using, [log.source_owner(source.id)])
    own = [
        (
            each.rollup,
            common(
                log.ranges_of(using, [log.level_owner(each.id)]), [Range(each.floor_us, MAX_US)]
            ),
        )
        for each in levels
    ]
    return [(source.source, late), *own]


def _finest(using: str, sources: Collection[str]) -> list[Grid]:
    rollups = (from_text(each.rollup, each.declaration) for each in _levels(using, sources))
    return [grid_of(rollup.widths[0], rollup.zone_name) for rollup in rollups]


def _aligned(grids: list[Grid], time_us: int) -> int:
    return settled(time_us, [grid.floor for grid in grids])


def settled(time_us: int, floors: Collection[Callable[[int], int]]) -> int:
    """Return the last time at or before one that all of these functions leave as it is.

    Days of two time zones may have no such time; then it is ``MIN_US``, so that nothing goes.
    """
    for _ in range(_ROUNDS_MAX):
        before = time_us
        for floor in floors:
            time_us = floor(time_us)
        if time_us == before:
            return time_us
    return MIN_US


def _sources(using: str, names: Collection[str]) -> Any:
    # Of whatever backend: those on one alias share their rows.
    rows = apps.get_model("tailrace", "RollupSource")._base_manager.using(using)
    return rows.filter(source__in=list(names)).exclude(source="")


def _levels(using: str, sources: Collection[str]) -> Any:
    rows = apps.get_model("tailrace", "RollupLevel")._base_manager.using(using)
    return rows.filter(source__in=list(sources), level=0).order_by("id")
