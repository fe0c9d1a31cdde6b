"""What rows of a host's models refer to: whether it is there, and when a device was last seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import router

from .private_connection import private_connection

if TYPE_CHECKING:
    from .model_tables import ModelTable, Row

KEYS_A_QUERY = 500
"""Bound parameters in one statement: old SQLite takes 999."""
_DEVICES_AN_UPDATE = 200
"""An UPDATE by CASE takes the square of that many comparisons."""
LAST_SEEN = "last_seen"


def missing_keys(table: ModelTable, rows: Sequence[Row], using: str) -> dict[int, str]:
    """Return why rows refer to nothing, by position; one query for each foreign key."""
    reasons: dict[int, str] = {}
    for place, field in table.checked_keys:
        wanted = {row[place] for row in rows if row[place] is not None}
        existing = _existing(field, wanted, using)
        for at, row in enumerate(rows):
            if row[place] is not None and row[place] not in existing:
                what = field.related_model._meta.verbose_name
                reasons[at] = (
                    f"{table.label}.{field.name}: there is no {what} {row[place]!r:.80}; it was "
                    "deleted, or never saved"
                )
    return reasons


def latest_by_device(table: ModelTable, rows: Iterable[Row]) -> dict[Any, datetime]:
    """Return the latest timestamp of each device."""
    device, when = table.device_place, table.time_place
    if device is None or when is None:
        return {}
    latest: dict[Any, datetime] = {}
    for row in rows:
        known = latest.get(row[device])
        if row[device] is not None and (known is None or row[when] > known):
            latest[row[device]] = row[when]
    return latest


def update_last_seen(field: Any, latest: dict[Any, datetime]) -> None:
    """Move ``last_seen`` of devices forward, never back.

    Devices on another alias than their readings are updated there, at once: what comes of it
    twice is the same as once.

    Args:
        field: The readings' foreign key to the devices.
        latest: When each was seen.
    """
    model = field.related_model
    names = {each.name for each in model._meta.concrete_fields}
    if LAST_SEEN not in names or not latest:
        return
    alias = str(router.db_for_write(model))
    keys = sorted(latest)
    with private_connection(alias) as connection:
        for start in range(0, len(keys), KEYS_A_QUERY):
            some = keys[start : start + KEYS_A_QUERY]
            # Locked in one order, so that two drainers never wait for each other in a ring.
            rows = model._base_manager.using(alias).filter(pk__in=some).order_by("pk")
            if connection.in_atomic_block:
                no_key = connection.features.has_select_for_no_key_update
                rows = rows.select_for_update(no_key=no_key, of=())
            _move_forward(rows.only("pk", LAST_SEEN), latest, alias)


def _move_forward(rows: Any, latest: dict[Any, datetime], alias: str) -> None:
    changed = []
    for row in rows:
        seen = latest[row.pk]
        if row.last_seen is None or row.last_seen < seen:
            row.last_seen = seen
            changed.append(row)
    if changed:
        rows.model._base_manager.using(alias).bulk_update(
            changed, [LAST_SEEN], batch_size=_DEVICES_AN_UPDATE
        )


def _existing(field: Any, wanted: set[Any], using: str) -> set[Any]:
    target = field.target_field
    model = field.related_model
    # Not the one to read from: a replica may not know a new device yet.
    alias = using if field.db_constraint else str(router.db_for_write(model))
    found: set[Any] = set()
    keys = list(wanted)
    with private_connection(alias):
        for start in range(0, len(keys), KEYS_A_QUERY):
            some = {f"{target.attname}__in": keys[start : start + KEYS_A_QUERY]}
            rows = model._base_manager.using(alias).filter(**some)
            found.update(rows.values_list(target.attname, flat=True))
    return found
