"""Retention policies: how long what is kept, as declared in ``TAILRACE["RETENTION"]``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from .interval import Interval, parse_interval
from .rollup import Rollup

EVERYTHING = "*"
ROLLUP = "rollup:"
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)\s*(B|kB|MB|GB|TB)?", re.ASCII)
_UNITS = {None: 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class TagRule(msgspec.Struct, frozen=True, rename="upper", forbid_unknown_fields=True):
    """Another age for events with certain tags."""

    tags: dict[str, str | tuple[str, ...]]
    """Which: all of these tags have (one of) these values."""
    drop_after: str
    """Their age."""


class RetentionConfig(msgspec.Struct, frozen=True, rename="upper", forbid_unknown_fields=True):
    """One entry of ``TAILRACE["RETENTION"]``."""

    drop_after: str | None = None
    """Older rows go; ``None`` keeps them, whatever ``*`` says."""
    hold: dict[str, str | tuple[str, ...]] = {}
    """Rows that have one of these tags are kept, however old and however many they are."""
    by_tag: tuple[TagRule, ...] = ()
    """Other ages for rows with certain tags; the first that fits counts."""
    max_rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The oldest rows go where there are more."""
    max_size: str | int | None = None
    """The same by estimated size: ``"10 GB"`` or bytes."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A declared retention policy."""

    target: str
    """A measurement, ``app_label.Model``, ``rollup:<width>``, ``rollup:<name>:<width>``, ``*``."""
    drop_after: Interval | None
    hold: dict[str, tuple[str, ...]]
    by_tag: tuple[tuple[dict[str, tuple[str, ...]], Interval], ...]
    max_rows: int | None
    max_bytes: int | None

    @property
    def is_of_rollup(self) -> bool:
        """Whether it is about the buckets of rollups."""
        return self.target.startswith(ROLLUP)

    @classmethod
    def make(cls, target: str, config: RetentionConfig | str | None) -> Policy:
        """Check an entry of the settings.

        Raises:
            ValueError: what is wrong with it, and what to write.
        """
        entry = config if isinstance(config, RetentionConfig) else RetentionConfig(config)
        rules = tuple(
            (_tags(rule.tags), _interval(rule.drop_after, "BY_TAG")) for rule in entry.by_tag
        )
        after = entry.drop_after
        made = cls(
            target=target,
            drop_after=None if after is None else _interval(after, "DROP_AFTER"),
            hold=_tags(entry.hold),
            by_tag=rules,
            max_rows=entry.max_rows,
            max_bytes=None if entry.max_size is None else _bytes(entry.max_size),
        )
        if made.is_of_rollup and (made.hold or rules or made.max_rows or made.max_bytes):
            raise ValueError("buckets of rollups have an age only; write a text such as '2 years'")
        return made


def policies_of(
    settings: Mapping[str, RetentionConfig | str | None], rollups: Mapping[str, Rollup]
) -> tuple[dict[str, Policy], list[str]]:
    """Return the policies by target.

    Args:
        settings: ``TAILRACE["RETENTION"]``.
        rollups: The declared ones, for policies about them.

    Returns:
        The policies, and what is wrong with those that are left out.
    """
    made: dict[str, Policy] = {}
    problems: list[str] = []
    for target, config in settings.items():
        try:
            policy = Policy.make(target, config)
            if policy.is_of_rollup and not _levels_of(target, rollups.values()):
                raise ValueError(f"no rollup has such buckets; there are: {_known(rollups)}")
            made[target] = policy
        except ValueError as error:
            problems.append(f"[{target!r}]: {error}")
    return made, problems + _contradictions(made, rollups)


def level_policy(policies: Mapping[str, Policy], rollup: Rollup, level: int) -> Policy | None:
    """Return the policy of a rollup's level; one with the rollup's name counts first."""
    found = None
    for target, policy in policies.items():
        if policy.is_of_rollup and (rollup.name, level) in _levels_of(target, [rollup]):
            if target.count(":") > 1:
                return policy
            found = policy
    return found


def source_policy(policies: Mapping[str, Policy], source: str) -> Policy | None:
    """Return the policy of a measurement or model; that of ``*`` where it has none."""
    return policies.get(source) or policies.get(EVERYTHING)


def _levels_of(target: str, rollups: Iterable[Rollup]) -> set[tuple[str, int]]:
    """Return the rollups' levels that a target names."""
    name, _, width = target.removeprefix(ROLLUP).rpartition(":")
    interval = parse_interval(width)
    return {
        (rollup.name, level)
        for rollup in rollups
        if name in ("", rollup.name)
        for level, each in enumerate(rollup.widths)
        if each == interval
    }


def _contradictions(policies: Mapping[str, Policy], rollups: Mapping[str, Rollup]) -> list[str]:
    """Return which policies would take away what others need."""
    problems = []
    for rollup in rollups.values():
        policy = source_policy(policies, rollup.source)
        start = rollup.start_offset
        if policy and policy.drop_after and start and _days(start) >= _days(policy.drop_after):
            problems.append(
                f"[{policy.target!r}] drops after {policy.drop_after} what rollup "
                f"{rollup.name!r} is to refresh for {start} (START_OFFSET); write a longer age "
                "or a shorter offset"
            )
        ages = [_age(level_policy(policies, rollup, at)) for at in range(len(rollup.widths))]
        for at, (finer, coarser) in enumerate(itertools.pairwise(ages)):
            if finer and coarser and coarser < finer:
                problems.append(
                    f"keeps buckets of {rollup.level_name(at)} longer than those of "
                    f"{rollup.level_name(at + 1)}, which are made of them; write a longer age "
                    "for the coarser ones"
                )
    return problems


def _known(rollups: Mapping[str, Rollup]) -> str:
    levels = [each.level_name(at) for each in rollups.values() for at in range(len(each.widths))]
    return ", ".join(sorted(levels))


def _age(policy: Policy | None) -> float | None:
    return None if policy is None or policy.drop_after is None else _days(policy.drop_after)


def _days(interval: Interval) -> float:
    return interval.months * 30.4375 + interval.seconds / 86_400


def _tags(tags: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        name: (wanted,) if isinstance(wanted, str) else tuple(wanted)
        for name, wanted in tags.items()
    }


def _interval(text: str, setting: str) -> Interval:
    try:
        return parse_interval(text)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error


def _bytes(size: str | int) -> int:
    match = _SIZE.fullmatch(str(size).strip())
    amount = int(float(match.group(1)) * _UNITS[match.group(2)]) if match else 0
    if amount <= 0:
        raise ValueError(f"MAX_SIZE is {size!r:.80}; write bytes, or for example '10 GB'")
    return amount
