"""The difference between the rollups that are declared and those that are stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.apps import apps

from tailrace.backends.written_models import is_reading, written_models
from tailrace.pipeline.rollup import Rollup

from . import log
from .declaration import to_text
from .grid import grid_of
from .ranges import MAX_US, MIN_US, Range

_DAYS_OF_A_MONTH = 28


class Declared(NamedTuple):
    """A rollup, and whether ``continuous_aggregate()`` made it."""

    rollup: Rollup
    is_declared_here: bool = False


class Key(NamedTuple):
    """What names a level in a backend."""

    rollup: str
    level: int


def source_key(rollup: Rollup) -> str:
    """Return what a rollup's source is called in the tables: of readings, the model's label.

    Raises:
        ValueError: there is no such model.
    """
    if rollup.is_of_model:
        try:
            return str(apps.get_model(rollup.source)._meta.label)
        except LookupError as error:
            raise ValueError(
                f"rollup {rollup.name!r}: SOURCE is {rollup.source!r}, and there is no such model; "
                "write a measurement, or app_label.Model"
            ) from error
    model: Any = written_models().get(rollup.source)
    return str(model._meta.label) if is_reading(model) else rollup.source


def objects(using: str, model: str) -> Any:
    """Return the rows of one of Tailrace's models."""
    return apps.get_model("tailrace", model)._base_manager.using(using)


class Changes:
    """The difference between what is declared and what is stored."""

    def __init__(self, backend: Any, wanted: Mapping[str, Declared], rows: list[Any]) -> None:
        self._alias = backend.alias
        self._using = backend.get_db_alias()
        self._wanted = {
            Key(name, level): each
            for name, each in wanted.items()
            for level in range(len(each.rollup.widths))
        }
        self._rows = {Key(row.rollup, row.level): row for row in rows}
        self._now_us = time.time_ns() // 1_000
        self.messages: list[str] = []

    @property
    def is_needed(self) -> bool:
        if self._rows.keys() != self._wanted.keys():
            return True
        return any(
            not self._has_same_buckets(key, row)
            or row.declaration != to_text(self._wanted[key].rollup)
            or row.is_declared_here != self._wanted[key].is_declared_here
            for key, row in self._rows.items()
        )

    def apply(self) -> None:
        """Change the rows, in the transaction that holds the gate."""
        for key, row in self._rows.items():
            declared = self._wanted.get(key)
            if declared is None:
                self._say(
                    f"rollup {key.rollup!r} level {key.level}: not declared any more, its "
                    "buckets are removed"
                )
                self._remove(row)
            elif not self._has_same_buckets(key, row):
                name = declared.rollup.level_name(key.level)
                self._say(f"rollup {name!r}: its declaration changed, all buckets are made anew")
                self._remove(row)
                self._make(key, declared)
            else:
                self._update(row, declared)
        for key, declared in self._wanted.items():
            if key not in self._rows:
                self._say(f"rollup {declared.rollup.level_name(key.level)!r}: new")
                self._make(key, declared)
        self._settle_sources()

    def _has_same_buckets(self, key: Key, row: Any) -> bool:
        rollup = self._wanted[key].rollup
        return bool(
            row.fingerprint == rollup.fingerprint(key.level) and row.source == source_key(rollup)
        )

    def _say(self, message: str) -> None:
        self.messages.append(message)

    def _remove(self, row: Any) -> None:
        owners = (log.level_owner(row.id), log.unwanted_owner(row.id))
        log.objects(self._using).filter(owner__in=owners).delete()
        objects(self._using, "RollupLevel").filter(id=row.id).delete()

    def _make(self, key: Key, declared: Declared) -> None:
        rollup = declared.rollup
        row = objects(self._using, "RollupLevel").create(
            backend=self._alias,
            rollup=key.rollup,
            level=key.level,
            source=source_key(rollup),
            fingerprint=rollup.fingerprint(key.level),
            declaration=to_text(rollup),
            is_declared_here=declared.is_declared_here,
            floor_us=MIN_US,
        )
        first = MIN_US if rollup.with_data else self._first_wanted(rollup, key.level)
        log.add(self._using, log.level_owner(row.id), [Range(first, MAX_US)])
        if first > MIN_US:
            log.add(self._using, log.unwanted_owner(row.id), [Range(MIN_US, first)])

    def _first_wanted(self, rollup: Rollup, level: int) -> int:
        """Return the first bucket of a level that a rollup without data has: of whole ones."""
        first = grid_of(rollup.widths[0], rollup.zone_name).floor(self._now_us)
        for width in rollup.widths[1 : level + 1]:
            first = grid_of(width, rollup.zone_name).ceil(first)
        return first

    def _update(self, row: Any, declared: Declared) -> None:
        text = to_text(declared.rollup)
        if row.declaration != text or row.is_declared_here != declared.is_declared_here:
            row.declaration, row.is_declared_here = text, declared.is_declared_here
            row.save(using=self._using)
        if declared.rollup.with_data:
            unwanted = log.objects(self._using).filter(owner=log.unwanted_owner(row.id))
            if unwanted.update(owner=log.level_owner(row.id)):
                name = declared.rollup.level_name(row.level)
                self._say(f"rollup {name!r}: what was there before it is computed, too")

    def _settle_sources(self) -> None:
        """Have a row for each source; one without rollups is no concern of writers any more."""
        grains: dict[str, int] = {}
        for declared in self._wanted.values():
            source, grain = source_key(declared.rollup), grain_of(declared.rollup)
            grains[source] = min(grain, grains.get(source, grain))
        rows = objects(self._using, "RollupSource").filter(backend=self._alias)
        known = {row.source: row for row in rows.select_for_update().order_by("id")}
        for source in sorted(grains.keys() - known.keys()):
            rows.create(
                backend=self._alias,
                source=source,
                threshold_us=MIN_US,
                floor_us=MIN_US,
                grain_us=grains[source],
            )
        for source, row in known.items():
            if source not in grains:
                log.objects(self._using).filter(owner=log.source_owner(row.id)).delete()
                rows.filter(id=row.id).update(threshold_us=MIN_US)
            elif grains[source] != row.grain_us:
                rows.filter(id=row.id).update(grain_us=grains[source])


def grain_of(rollup: Rollup) -> int:
    """Return the width of a rollup's finest buckets, in microseconds."""
    width = rollup.widths[0]
    return (width.seconds or width.months * _DAYS_OF_A_MONTH * 86_400) * 1_000_000
