"""Which rollups a backend has, and bringing its tables in line with that.

Rollups come from the settings, from :func:`register_rollup` in code that runs in every process, and
from ``continuous_aggregate()``, which stores its declaration in the backend's database.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.db import router, transaction
from django.db.models import F

from tailrace.backends.registry import backends
from tailrace.pipeline.rollup import Rollup, rollups_of

from .changes import Changes, Declared, objects, source_key
from .declaration import from_text
from .invalidation import GATE, make_gate

logger = logging.getLogger("tailrace")

_registered: dict[str, Rollup] = {}


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
    if not Changes(backend, wanted, list(rows)).is_needed:
        return []
    return _apply(backend, wanted)


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
        changes = Changes(backend, wanted, list(rows.order_by("id")))
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
