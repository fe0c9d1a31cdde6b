"""Rollups: what is aggregated, into buckets of which widths, and how it is declared.

A rollup keeps partials (count, sum, min, max, and a sketch where percentiles are asked for) of a
measurement or a model of readings, by group and bucket, at one or several levels: the first is
computed from the rows, each further one from the level below. ``backends/rollups/`` keeps them up
to date and reads them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from typing import Annotated, Any, Literal, get_args

import msgspec

from .interval import Interval, parse_interval, parse_zone

Function = Literal["count", "sum", "avg", "min", "max", "p50", "p75", "p90", "p95", "p99"]
FUNCTIONS: tuple[str, ...] = get_args(Function)
PERCENTILES = tuple(name for name in FUNCTIONS if name[1:].isdigit())
LEVELS_MAX = 8

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][\w.-]{0,62}$")]


class RollupConfig(msgspec.Struct, frozen=True, rename="upper", forbid_unknown_fields=True):
    """One entry of ``TAILRACE["ROLLUPS"]``."""

    source: str
    """A measurement, or ``app_label.Model`` of a model of readings."""
    fields: tuple[str, ...] = ()
    """Whose numbers to aggregate; without, rows are only counted."""
    functions: tuple[Function, ...] = ("count", "sum", "avg", "min", "max")
    """What it must be able to answer; a percentile adds a sketch to every bucket."""
    widths: tuple[str, ...] = ("1 minute", "1 hour", "1 day")
    """Bucket widths, each a multiple of the one before."""
    group_by: tuple[str, ...] = ()
    """Tags, or columns of the model."""
    start_offset: str | None = None
    """How far back beat refreshes; all that is invalid without."""
    end_offset: str | None = "1 minute"
    """Buckets that end later than this long ago are read from the rows."""
    schedule_interval: str = "1 minute"
    """How often beat refreshes."""
    with_data: bool = True
    """Whether beat computes what was there before the rollup; else only what comes after."""
    time_zone: str = "UTC"
    """Whose midnight a day starts at."""


@dataclass(frozen=True, kw_only=True)
class Rollup:
    """A declared rollup. Make one with :meth:`make`, which checks it."""

    name: str
    source: str
    """A measurement, or ``app_label.Model``."""
    fields: tuple[str, ...]
    functions: tuple[str, ...]
    widths: tuple[Interval, ...]
    """From the finest to the coarsest."""
    group_by: tuple[str, ...]
    start_offset: Interval | None
    end_offset: Interval | None
    schedule_interval: Interval
    with_data: bool
    zone_name: str

    @classmethod
    def make(
        cls,
        name: str,
        source: str,
        *,
        fields: tuple[str, ...] = (),
        functions: tuple[str, ...] = ("count", "sum", "avg", "min", "max"),
        widths: tuple[str | timedelta | Interval, ...] = ("1 minute", "1 hour", "1 day"),
        group_by: tuple[str, ...] = (),
        start_offset: str | timedelta | Interval | None = None,
        end_offset: str | timedelta | Interval | None = "1 minute",
        schedule_interval: str | timedelta | Interval = "1 minute",
        with_data: bool = True,
        time_zone: str = "UTC",
    ) -> Rollup:
        """Check a declaration.

        Args:
            name: What it is called in settings, commands and pages.
            source: A measurement, or ``app_label.Model`` of a model of readings.
            fields: Whose numbers to aggregate.
            functions: Of ``FUNCTIONS``; what it must be able to answer.
            widths: Of the buckets, each a multiple of the one before.
            group_by: Tags, or columns of the model.
            start_offset: How far back a scheduled refresh goes; ``None``: as far as needed.
            end_offset: How long ago the last bucket that it computes has to have ended.
            schedule_interval: How often it is refreshed.
            with_data: Whether what was stored before the rollup was declared is computed.
            time_zone: Whose wall clock buckets start on.

        Raises:
            ValueError: what is wrong, and what to write instead.
        """
        try:
            return cls(
                name=name,
                source=source,
                fields=_distinct(fields, "FIELDS"),
                functions=_functions(functions),
                widths=_widths(widths),
                group_by=_distinct(group_by, "GROUP_BY"),
                start_offset=_offset(start_offset, "START_OFFSET"),
                end_offset=_offset(end_offset, "END_OFFSET"),
                schedule_interval=_schedule(schedule_interval),
                with_data=with_data,
                zone_name=_zone_name(time_zone),
            )._consistent()
        except ValueError as error:
            raise ValueError(f"rollup {name!r}: {error}") from error

    @property
    def zone(self) -> tzinfo:
        """Whose wall clock buckets start on."""
        return parse_zone(None if self.zone_name == "UTC" else self.zone_name)

    @property
    def has_sketch(self) -> bool:
        """Whether buckets keep a sketch, from which percentiles are read."""
        return not set(PERCENTILES).isdisjoint(self.functions)

    @property
    def is_of_model(self) -> bool:
        """Whether the source is a Django model rather than a measurement.

        A measurement may have a dot, too; a model's label has one, and a capital after it.
        """
        return self.is_label(self.source)

    @staticmethod
    def is_label(source: str) -> bool:
        """Return whether a source is written as a model's label."""
        label, _, model = source.rpartition(".")
        return bool(label) and model[:1].isupper()

    def level_name(self, level: int) -> str:
        """Return how a level is called: ``requests:1 hour``."""
        return f"{self.name}:{self.widths[level]}"

    def fingerprint(self, level: int) -> str:
        """Return a text that is another one when a level's buckets have to be computed anew.

        That is so if anything that goes into them changes, in this level or one below; the order
        of groups, too, which is that of the values in a bucket.
        """
        content = (
            *(self.source, sorted(self.fields), self.has_sketch, list(self.group_by)),
            *(self.zone_name, [str(width) for width in self.widths[: level + 1]]),
        )
        return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()

    def _consistent(self) -> Rollup:
        if not self.fields and set(self.functions) - {"count"}:
            return Rollup(**{**_as_dict(self), "functions": ("count",)})
        start, end = self.start_offset, self.end_offset
        if start is not None and _seconds(start) <= _seconds(end) + _seconds(self.widths[0]):
            raise ValueError(
                f"START_OFFSET {start} must reach back further than END_OFFSET and one bucket of "
                f"{self.widths[0]}, or nothing is ever refreshed"
            )
        return self


BUILT_IN: Mapping[str, RollupConfig] = {
    "requests": RollupConfig(
        source="request",
        fields=("duration_ms",),
        functions=FUNCTIONS,  # type: ignore[arg-type]
        group_by=("route", "method", "status"),
    ),
    "queries": RollupConfig(
        source="query",
        fields=("duration_ms",),
        functions=FUNCTIONS,  # type: ignore[arg-type]
        group_by=("alias", "operation", "status"),
    ),
    "exceptions": RollupConfig(source="exception", group_by=("type", "route", "handled")),
    "jobs": RollupConfig(
        source="job",
        fields=("duration_ms",),
        functions=FUNCTIONS,  # type: ignore[arg-type]
        group_by=("task", "status"),
    ),
}
"""What the dashboard reads. ``ROLLUPS = {"queries": False}`` turns one off."""


def rollups_of(settings: Mapping[str, RollupConfig | bool]) -> tuple[dict[str, Rollup], list[str]]:
    """Return the declared rollups by name, the built-in ones among them.

    Args:
        settings: ``TAILRACE["ROLLUPS"]``.

    Returns:
        The rollups, and what is wrong with those that are left out.
    """
    made: dict[str, Rollup] = {}
    problems: list[str] = []
    for name, entry in {**BUILT_IN, **settings}.items():
        if entry is False:
            continue
        if entry is True:
            if name not in BUILT_IN:
                problems.append(
                    f"ROLLUPS[{name!r}] is True, which only turns on the built-in ones: "
                    f"{', '.join(BUILT_IN)}; write a dict with SOURCE"
                )
                continue
            entry = BUILT_IN[name]
        try:
            made[name] = Rollup.make(name, **msgspec.structs.asdict(entry))
        except ValueError as error:
            problems.append(str(error))
    return made, problems


def _as_dict(rollup: Rollup) -> dict[str, Any]:
    return {name: getattr(rollup, name) for name in rollup.__dataclass_fields__}


def _distinct(names: tuple[str, ...], setting: str) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str) or not name:
            raise ValueError(f"{setting} has {name!r:.80}; write a list of names")
    return tuple(dict.fromkeys(names))


def _functions(functions: tuple[str, ...]) -> tuple[str, ...]:
    for name in functions:
        if name not in FUNCTIONS:
            raise ValueError(f"FUNCTIONS has {name!r:.80}; there are: {', '.join(FUNCTIONS)}")
    return tuple(dict.fromkeys(functions)) or ("count",)


def _widths(widths: tuple[Any, ...]) -> tuple[Interval, ...]:
    parsed = tuple(parse_interval(width) for width in widths)
    if not 1 <= len(parsed) <= LEVELS_MAX:
        raise ValueError(f"WIDTHS has {len(parsed)} entries; write 1 to {LEVELS_MAX}")
    for finer, coarser in itertools.pairwise(parsed):
        if not divides(finer, coarser):
            raise ValueError(
                f"WIDTHS: {coarser} is not a multiple of {finer}, so its buckets cannot be made "
                "of that level's; write for example ['1 minute', '1 hour', '1 day']"
            )
    return parsed


def divides(finer: Interval, coarser: Interval) -> bool:
    """Return whether each bucket of ``coarser`` is made of whole buckets of ``finer``.

    Of one time zone. Both count from a Monday, so a week is made of days and a month is not
    made of weeks.
    """
    if finer.months:
        return bool(coarser.months) and coarser != finer and coarser.months % finer.months == 0
    if coarser.months:
        return _DAY_SECONDS % finer.seconds == 0
    return coarser != finer and coarser.seconds % finer.seconds == 0


def _offset(value: Any, setting: str) -> Interval | None:
    try:
        return None if value is None else parse_interval(value)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error


def _schedule(value: Any) -> Interval:
    interval = _offset(value, "SCHEDULE_INTERVAL")
    if interval is None or interval.months:
        raise ValueError(f"SCHEDULE_INTERVAL is {value!r:.80}; write a time such as '1 minute'")
    return interval


def _zone_name(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"TIME_ZONE is {name!r:.80}; write a name such as 'Europe/Berlin'")
    parse_zone(name)
    return name


_DAY_SECONDS = 86_400


def _seconds(interval: Interval | None) -> int:
    if interval is None:
        return 0
    return interval.seconds or interval.months * 28 * _DAY_SECONDS
