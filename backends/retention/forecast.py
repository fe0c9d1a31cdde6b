"""What a sweep would do, and which charts would lose detail by it; for ``--dry-run``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.apps import apps

from tailrace.backends.reading.dialects import Dialect
from tailrace.backends.rollups.ranges import MIN_US, shown
from tailrace.pipeline.retention import Policy, level_policy
from tailrace.pipeline.rollup import Rollup

from . import floor, levels, sizes
from .plan import Due, due_by_age, targets

_BUCKET_BYTES = 300
"""Of a bucket without a sketch, with its indexes; one with a sketch has some hundred more."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What would go of one target."""

    target: str
    before: str
    """The time, as people read it."""
    rows: int
    size_bytes: int
    """Estimated."""
    charts: tuple[str, ...]
    """Which charts lose detail, and what they still have."""
    waits_for: str = ""
    """What has to be refreshed before."""
    problem: str = ""
    """What is wrong with the policy."""


def forecasts(
    backend: Any, dialect: Dialect, policies: Mapping[str, Policy], now: datetime
) -> list[Forecast]:
    """Return what a sweep would delete; nothing is changed.

    Args:
        backend: An ORM backend, connected.
        dialect: Of its database.
        policies: Of the settings, by target.
        now: Aware.
    """
    rollups = backend.rollups()
    found = []
    for target, policy in targets(backend, dialect, policies):
        try:
            due = due_by_age(target, policy, now)
            due = due.at_least(sizes.oldest_kept_us(target, policy))
            if due.last_us > MIN_US:
                found.append(_of_rows(due, rollups, policies))
        except ValueError as error:
            problem = f"TAILRACE['RETENTION'][{policy.target!r}]: {error}"
            found.append(_problem(target.name, problem))
    using = backend.get_db_alias()
    for level in levels.due_levels(backend, policies, now):
        found.append(_of_level(using, level, policies))
    return found


def _of_rows(due: Due, rollups: Mapping[str, Rollup], policies: Mapping[str, Policy]) -> Forecast:
    target = due.target
    aligned = due.limited(floor.aligned(target.using, target.sources, due.last_us))
    rows = aligned.rows(MIN_US, aligned.last_us).count()
    waiting = floor.pending(target.using, target.sources, aligned.last_us)
    over = [each for each in rollups.values() if each.source in target.sources]
    return Forecast(
        target=target.name,
        before=shown(aligned.last_us),
        rows=rows,
        size_bytes=int(rows * sizes.bytes_per_row(target)) if rows else 0,
        charts=tuple(_charts_of(target.name, over, policies)),
        waits_for=_waits_for(aligned, waiting is not None),
    )


def _waits_for(due: Due, is_pending: bool) -> str:
    if due.last_us == MIN_US:
        return floor.at_odds(due.target.using, due.target.sources)
    return "a refresh of its rollups, which a sweep does first" if is_pending else ""


def _charts_of(name: str, over: list[Rollup], policies: Mapping[str, Policy]) -> list[str]:
    if not over:
        return [f"no rollup is over {name}: its charts end there"]
    lines = []
    for rollup in over:
        widths = ", ".join(
            f"{width} {_age(level_policy(policies, rollup, at))}"
            for at, width in enumerate(rollup.widths)
        )
        fields = ", ".join(rollup.fields) or "the number of rows"
        tags = f" by {', '.join(rollup.group_by)}" if rollup.group_by else ""
        lines.append(f"rollup {rollup.name!r} keeps {fields}{tags}: {widths}")
    lines.append("charts of other fields or tags, and narrower ones, end there")
    return lines


def _age(policy: Policy | None) -> str:
    if policy is None or policy.drop_after is None:
        return "for ever"
    return f"for {policy.drop_after}"


def _of_level(using: str, due: levels.LevelDue, policies: Mapping[str, Policy]) -> Forecast:
    buckets: Any = apps.get_model("tailrace", "RollupBucket")._base_manager.using(using)
    rows = buckets.filter(level_id=due.id, bucket_us__lt=due.before_us).count()
    coarser = due.rollup.widths[due.level + 1 :]
    if coarser:
        remain = ", ".join(
            f"{width} {_age(level_policy(policies, due.rollup, at))}"
            for at, width in enumerate(coarser, due.level + 1)
        )
        chart = f"charts narrower than {coarser[0]} end there; {remain} remain"
    else:
        chart = "it is the coarsest level: charts end there"
    return Forecast(
        target=due.name,
        before=shown(due.before_us),
        rows=rows,
        size_bytes=rows * _BUCKET_BYTES,
        charts=(chart,),
    )


def _problem(target: str, problem: str) -> Forecast:
    return Forecast(target=target, before="", rows=0, size_bytes=0, charts=(), problem=problem)
