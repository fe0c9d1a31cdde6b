"""Keeping our own books small, without changing what they say.

High-water marks are needed as long as a copy of one of the producer's frames may still come:
from a spool, or from a Redis that was restored. After that, all that must stay is how much the
producer captured. Ledger entries are by the minute at first; old ones are by the hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from django.db.models import F, Sum
from django.utils import timezone

from .orm_transaction import mark_of

RETIRED_PRODUCER = "00" * 10
"""The row that has the sum of the producers that are gone."""
_MARK_DAYS = 30
_LEDGER_DAYS = 7
_SLICE_ROWS = 1_000
_HOUR_SECONDS = 3600

Objects = Callable[[str], Any]
Locked = Callable[[int], AbstractContextManager[Any]]


def retire_producers(backend: str, shard: int, objects: Objects, locked: Locked) -> int:
    """Fold the marks of producers that are long gone into one row.

    Args:
        backend: The backend's alias.
        shard: Which shard's producers.
        objects: Gives the manager of one of our models, on the backend's database.
        locked: Opens a transaction that holds the shard's checkpoint.

    Returns:
        How many marks went.
    """
    before = timezone.now() - timedelta(days=_MARK_DAYS)
    retired = 0
    while True:
        with locked(shard):
            marks = objects("ProducerMark").filter(backend=backend, shard=shard)
            old = marks.filter(updated_at__lt=before).exclude(producer=RETIRED_PRODUCER)
            rows = list(old.order_by("updated_at")[:_SLICE_ROWS])
            if not rows:
                return retired
            total: Counter[str] = Counter()
            for row in rows:
                total.update(mark_of(row).captured())
            _add_to_retired(marks, backend, shard, total)
            marks.filter(pk__in=[row.pk for row in rows]).delete()
            retired += len(rows)


def _add_to_retired(marks: Any, backend: str, shard: int, total: Counter[str]) -> None:
    row = marks.filter(producer=RETIRED_PRODUCER).first()
    if row is None:
        row = marks.model(backend=backend, shard=shard, producer=RETIRED_PRODUCER, sequence=0)
    row.sent = dict(Counter(row.sent) + total)
    row.is_last = True
    row.save(using=marks.db)


def fold_ledger(backend: str, shard: int, objects: Objects, locked: Locked) -> int:
    """Fold old entries of the ledger into one for each hour.

    Args:
        backend, shard, objects, locked: As for :func:`retire_producers`.

    Returns:
        How many entries fewer there are.
    """
    now = int(timezone.now().timestamp())
    end = (now - _LEDGER_DAYS * 86_400) // _HOUR_SECONDS * _HOUR_SECONDS
    saved = 0
    while True:
        with locked(shard):
            entries = objects("LedgerEntry").filter(backend=backend, shard=shard)
            # An hour's sum has the hour's start for its minute.
            by_minute = entries.filter(minute__lt=end).annotate(offset=F("minute") % _HOUR_SECONDS)
            minutes = by_minute.exclude(offset=0).order_by("minute")
            first = minutes.values_list("minute", flat=True).first()
            if first is None:
                return saved
            saved += _fold_hour(entries, first // _HOUR_SECONDS * _HOUR_SECONDS, backend, shard)


def _fold_hour(entries: Any, hour: int, backend: str, shard: int) -> int:
    inside = entries.filter(minute__gte=hour, minute__lt=hour + _HOUR_SECONDS)
    sums = list(inside.values_list("measurement", "outcome").annotate(Sum("amount")).order_by())
    removed, _ = inside.delete()
    entries.bulk_create(
        entries.model(
            backend=backend,
            shard=shard,
            minute=hour,
            measurement=measurement,
            outcome=outcome,
            amount=amount,
        )
        for measurement, outcome, amount in sums
    )
    return int(removed) - len(sums)
