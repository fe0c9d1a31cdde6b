"""Which rollups a backend has, and bringing its tables in line with that.

Rollups come from the settings, from :func:`register_rollup` in code that runs in every process, and
from ``continuous_aggregate()``, which stores its declaration in the backend's database.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.apps import apps
from django.db import router, transaction
from django.db.models import F

from tailrace.backends.registry import backends
from tailrace.backends.written_models import is_reading, written_models
from tailrace.pipeline.rollup import Rollup, rollups_of

from . import log
from .declaration import from_text, to_text
from .grid import grid_of
from .invalidation import GATE, make_gate
from .ranges import MAX_US, MIN_US, Range

logger = logging.getLogger("tailrace")

_registered: dict[str, Rollup] = {}
_DAYS_OF_A_MONTH = 28


class Declared(NamedTuple):
    """A rollup, and whether ``continuous_aggregate()`` made it."""

    rollup: Rollup
    is_declared_here: bool = False


class Key(NamedTuple):
    """What names a level in a backend."""

    rollup: str
    level: int


def register_rollup(name: str, source: str, **options: Any) -> Rollup:
    """Declare a rollup in code: in a module that every process imports, such as ``models.py``.

    Args:
        name: What it is called; an entry of the settings with this name counts before it.
        source: A measurement, or ``app_label.Model``.
        **options: As for :meth:`Rollup.make`.

    Raises:
        ValueError: what is wrong, and what to write instead.
    """
    _registered[name] = Rollup.make(name, source, **options)
    return _registered[name]


def unregister_rollup(name: str) -> None:
    """Undo :func:`register_rollup`."""
    _registered.pop(name, None)


def rollups_of_backend(backend: Any) -> dict[str, Rollup]:
    """Return the rollups of a backend by name: the declared ones, and those stored in it.

    Args:
        backend: A backend on a Django database.
    """
    return {name: each.rollup for name, each in _wanted(backend).items()}


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


def declare(backend: Any, rollup: Rollup) -> bool:
    """Store a rollup's declaration in a backend, as ``continuous_aggregate()`` does.

    Args:
        backend: A backend on a Django database; call it with its connection open.
        rollup: The rollup.

    Returns:
        Whether it is new; ``False`` where it is there with the same buckets. Offsets and
        schedule are then replaced.

    Raises:
        ValueError: another one has its name, or its source is none.
    """
    source_key(rollup)
    wanted = _wanted(backend)
    known = wanted.get(rollup.name)
    if known is not None and not known.is_declared_here:
        raise ValueError(
            f"there is a rollup {rollup.name!r} already, in TAILRACE['ROLLUPS'] or by "
            "register_rollup(); choose another name"
        )
    last = len(rollup.widths) - 1
    if known is not None:
        is_same = known.rollup.fingerprint(len(known.rollup.widths) - 1) == rollup.fingerprint(last)
        if not (is_same and known.rollup.functions == rollup.functions):
            raise ValueError(
                f"there is another continuous aggregate {rollup.name!r} already; choose another "
                "name, or drop it first (drop_continuous_aggregate)"
            )
    _apply(backend, {**wanted, rollup.name: Declared(rollup, True)})
    return known is None


def undeclare(backend: Any, name: str) -> None:
    """Remove what :func:`declare` stored; the buckets go with the next refresh.

    Raises:
        ValueError: there is none of that name.
    """
    wanted = _wanted(backend)
    known = wanted.pop(name, None)
    if known is None or not known.is_declared_here:
        raise ValueError(f"backend {backend.alias!r} has no continuous aggregate {name!r:.80}")
    _apply(backend, wanted)


def synchronise(backend: Any) -> list[str]:
    """Bring the rows of levels and sources in line with the declarations.

    Args:
        backend: A backend on a Django database, with its connection open.

    Returns:
        What had to be changed, a sentence each. New levels are wholly invalid; buckets of
        levels that are gone have no level any more, and are removed by and by.
    """
    wanted = _wanted(backend)
    using = backend.get_db_alias()
    rows = objects(using, "RollupLevel").filter(backend=backend.alias)
    if not _Changes(backend, wanted, list(rows)).is_needed:
        return []
    return _apply(backend, wanted)


def objects(using: str, model: str) -> Any:
    """Return the rows of one of Tailrace's models."""
    return apps.get_model("tailrace", model)._base_manager.using(using)


def belongs(backend: Any, rollup: Rollup) -> bool:
    """Return whether a backend stores what a rollup is of.

    Events are stored by the backends that accept them, readings on the alias of their model.
    """
    try:
        source = source_key(rollup)
    except ValueError as error:
        logger.error("%s", error)
        return False
    if rollup.is_of_model or source != rollup.source:
        return bool(router.db_for_write(apps.get_model(source)) == backend.get_db_alias())
    entry = backends.config.backends.get(backend.alias)
    return entry is None or entry.accepts(source)


def _wanted(backend: Any) -> dict[str, Declared]:
    config = backends.config
    declared = dict(_registered)
    if backend.alias in config.backends:
        declared |= rollups_of(config.rollups)[0]
    found = {name: Declared(each) for name, each in declared.items() if belongs(backend, each)}
    return {**_stored(backend), **found}


def _stored(backend: Any) -> dict[str, Declared]:
    rows = objects(backend.get_db_alias(), "RollupLevel").filter(
        backend=backend.alias, is_declared_here=True
    )
    found = {}
    for name, text in rows.values_list("rollup", "declaration").order_by("rollup", "level"):
        found[name] = Declared(from_text(name, text), True)
    return found


def _apply(backend: Any, wanted: Mapping[str, Declared]) -> list[str]:
    using = backend.get_db_alias()
    with transaction.atomic(using=using):
        _hold_gate_alone(using)
        rows = objects(using, "RollupLevel").filter(backend=backend.alias).select_for_update()
        changes = _Changes(backend, wanted, list(rows.order_by("id")))
        changes.apply()
    for message in changes.messages:
        logger.info("backend %r: %s", backend.alias, message)
    return changes.messages


def _hold_gate_alone(using: str) -> None:
    """Wait for all writers that may not have seen what comes now; let no new one in."""
    gates = objects(using, "RollupSource").filter(backend=GATE, source=GATE)
    if not gates.select_for_update().exists():
        make_gate(using)
    # Changed, too: a writer whose snapshot is older must fail, and look again.
    gates.update(grain_us=F("grain_us") + 1)


class _Changes:
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
