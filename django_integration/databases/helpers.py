"""Upserts, and reads of another database that may be a little old."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.db import connections, router
from django.db.models import Model
from django.utils import timezone

DEFAULT_BATCH_ROWS = 1000
DEFAULT_MAX_AGE_SECONDS = 300


def bulk_upsert(
    model: type[Model],
    rows: Iterable[Model],
    *,
    unique_fields: Sequence[str],
    update_fields: Sequence[str] | None = None,
    using: str | None = None,
    batch_size: int = DEFAULT_BATCH_ROWS,
) -> int:
    """Insert rows, and where they are there already, update them.

    Args:
        model: the model of the rows.
        rows: instances. Of two with the same key the later one counts; one statement may not
            touch a row twice.
        unique_fields: the key; the database must have a unique constraint on it.
        update_fields: what to update; ``None`` is every other field but the primary key.
        using: alias; ``None`` asks the routers.
        batch_size: rows a statement.

    Returns:
        The number of rows sent.

    Raises:
        FieldDoesNotExist: a name in either list.
        ValueError: no unique field.
    """
    if not unique_fields:
        raise ValueError("unique_fields is empty: name the fields of a unique constraint")
    for name in [*unique_fields, *(update_fields or ())]:
        model._meta.get_field(name)
    if update_fields is None:
        update_fields = [
            field.name
            for field in model._meta.concrete_fields
            if not field.primary_key and field.name not in unique_fields and not field.generated
        ]
    latest = {tuple(getattr(row, name) for name in unique_fields): row for row in rows}
    alias = using or router.db_for_write(model)
    # MySQL updates on any unique key and refuses to be told which.
    targets = _targets(alias, unique_fields)
    conflict = {"update_conflicts": True, "update_fields": update_fields, **targets}
    if not update_fields:
        conflict = {"ignore_conflicts": True}
    model._base_manager.using(alias).bulk_create(
        list(latest.values()), batch_size=batch_size, **conflict
    )
    return len(latest)


def _targets(alias: str, unique_fields: Sequence[str]) -> dict[str, Any]:

    if connections[alias].features.supports_update_conflicts_with_target:
        return {"unique_fields": list(unique_fields)}
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedRead:
    """A value and when it was read.

    Args:
        value: what the reader returned.
        read_at: when it was read from the database, aware.
    """

    value: Any
    read_at: datetime

    @property
    def age_seconds(self) -> float:
        """How old the value is; say so where you show it."""
        return max((timezone.now() - self.read_at).total_seconds(), 0.0)


def cached_read(
    key: str,
    read: Callable[[], Any],
    *,
    max_age_seconds: float = DEFAULT_MAX_AGE_SECONDS,
    cache: str = DEFAULT_CACHE_ALIAS,
) -> CachedRead:
    """Return what `read` returns, or what it returned at most `max_age_seconds` ago.

    Args:
        key: cache key; include everything that the value depends on.
        read: makes the value. A queryset must be made a list: a lazy one would be cached unread.
        max_age_seconds: oldest value to return.
        cache: alias in ``CACHES``.
    """
    store = caches[cache]
    found = store.get(key)
    if isinstance(found, tuple) and len(found) == 2:
        held = CachedRead(value=found[0], read_at=found[1])
        if held.age_seconds <= max_age_seconds:
            return held
    fresh = CachedRead(value=read(), read_at=timezone.now())
    store.set(key, (fresh.value, fresh.read_at), max_age_seconds)
    return fresh
