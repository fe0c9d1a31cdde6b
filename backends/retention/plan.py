"""What is due: policies of settings and of code, as times before which rows go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db import models, router
from django.db.models.expressions import RawSQL

from tailrace.backends.reading.dialects import Dialect, Sql
from tailrace.backends.rollups.ranges import MIN_US, us_of
from tailrace.backends.written_models import is_reading, written_models
from tailrace.pipeline.interval import Interval, parse_interval
from tailrace.pipeline.retention import EVERYTHING, Policy

from .targets import (
    RAW_MESSAGES,
    Tags,
    Target,
    event_target,
    measurements,
    model_target,
)

Policies = Mapping[str, Policy]


@dataclass(frozen=True, kw_only=True)
class Due:
    """What of a target is to go."""

    target: Target
    policy: Policy
    before_us: int
    """Older rows go, in microseconds since 1970; ``MIN_US``: none, but for the rules."""
    rules: tuple[tuple[Tags, int], ...]
    """The same for rows that have certain tags; the first that fits counts."""

    @property
    def last_us(self) -> int:
        """From this time on, nothing goes."""
        return max(self._times, default=MIN_US)

    @property
    def first_us(self) -> int:
        """What is before this time and does not go now, never does by its age."""
        return min(self._times, default=MIN_US)

    @property
    def _times(self) -> list[int]:
        times = [self.before_us, *(before for _, before in self.rules)]
        return [each for each in times if each != MIN_US]

    @property
    def is_plain(self) -> bool:
        """Whether all rows of a time go together."""
        return not self.rules and not self.policy.hold

    def limited(self, last_us: int) -> Due:
        """Return what of it is before a time."""
        rules = tuple((tags, min(before, last_us)) for tags, before in self.rules)
        return replace(self, before_us=min(self.before_us, last_us), rules=rules)

    def at_least(self, first_us: int) -> Due:
        """Return the same with all that is before a time."""
        rules = tuple((tags, max(before, first_us)) for tags, before in self.rules)
        return replace(self, before_us=max(self.before_us, first_us), rules=rules)

    def rows(self, low_us: int, high_us: int) -> Any:
        """Return the query set of rows that go, of those in a half-open range of time."""
        rows = self.target.rows(low_us, min(high_us, self.last_us))
        if self.is_plain:
            return rows
        goes = self._goes()
        return rows.filter(RawSQL(goes.text, goes.params, models.BooleanField()))

    def _goes(self) -> Sql:
        """Return the condition; a tag that a row does not have makes it neither held nor ruled."""
        target = self.target
        cases: list[tuple[Sql, Sql]] = [
            (held, Sql("0")) for held in target.condition(self.policy.hold, of_all=False)
        ]
        for tags, before_us in self.rules:
            (ruled,) = target.condition(tags, of_all=True)
            cases.append((ruled, _older(target, before_us)))
        rest = _older(target, self.before_us)
        text = " ".join(f"WHEN {each.text} THEN {goes.text}" for each, goes in cases)
        params = tuple(param for pair in cases for each in pair for param in each.params)
        return Sql(f"CASE {text} ELSE {rest.text} END = 1", params + rest.params)


def _older(target: Target, before_us: int) -> Sql:
    if before_us == MIN_US:
        return Sql("0")
    older = target.before(before_us)
    return Sql(f"CASE WHEN {older.text} THEN 1 ELSE 0 END", older.params)


def due_by_age(target: Target, policy: Policy, now: datetime) -> Due:
    """Return what a policy's ages say of a target; sizes are not looked at."""
    return Due(
        target=target,
        policy=policy,
        before_us=_before(policy.drop_after, now),
        rules=tuple((tags, _before(after, now)) for tags, after in policy.by_tag),
    )


def _before(age: Interval | None, now: datetime) -> int:
    if age is None:
        return MIN_US
    try:
        return us_of(age.before(now).astimezone(UTC))
    except (OverflowError, ValueError):  # before the year 1
        return MIN_US


def targets(backend: Any, dialect: Dialect, policies: Policies) -> Iterator[tuple[Target, Policy]]:
    """Yield each target of a backend that a policy is about, with that policy.

    Args:
        backend: An ORM backend.
        dialect: Of its database, connected.
        policies: Of the settings.
    """
    using = str(dialect.connection.alias)
    for model in models_on(using):
        policy = model_policy(model, policies, stored_policies(backend.alias, using))
        if policy is not None:
            yield model_target(dialect, model), policy
    taken = {name for name, model in written_models().items() if is_reading(model)}
    labels = {model._meta.label for model in models_on(using)}
    named = [name for name, policy in policies.items() if not policy.is_of_rollup]
    for name in named:
        if name != EVERYTHING and name not in taken and name not in labels:
            yield event_target(dialect, name), policies[name]
    if EVERYTHING in policies:
        for name in measurements(using):
            if name not in policies:
                yield event_target(dialect, name), policies[EVERYTHING]


def models_on(using: str) -> list[Any]:
    """Return the models with a time that live on an alias: those of readings, and raw messages."""
    found = [model for model in written_models().values() if is_reading(model)]
    found.append(apps.get_model(RAW_MESSAGES))
    return [model for model in found if router.db_for_write(model) == using]


def model_policy(model: Any, policies: Policies, stored: Policies) -> Policy | None:
    """Return a model's policy: its own of the settings, else that of code, else that of all."""
    label = model._meta.label
    for name in own_names(model):
        if name in policies:
            return policies[name]
    return stored.get(label) or policies.get(EVERYTHING)


def own_names(model: Any) -> list[str]:
    """Return what the settings may call a model: its label, or the name of its readings."""
    names = [name for name, each in written_models().items() if each is model]
    return [model._meta.label, *names]


def stored_policies(backend: str, using: str) -> dict[str, Policy]:
    """Return the policies that ``create_retention_policy()`` made, by the model's label."""
    rows: Any = apps.get_model("tailrace", "RetentionPolicy")._base_manager.using(using)
    return {
        row.target: Policy(
            target=row.target,
            drop_after=parse_interval(row.drop_after),
            hold={},
            by_tag=(),
            max_rows=None,
            max_bytes=None,
        )
        for row in rows.filter(backend=backend)
    }
