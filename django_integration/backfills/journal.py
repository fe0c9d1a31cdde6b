"""What pages and commands ask of the records of backfills, and change in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db import transaction
from django.db.models import Count, Sum

from tailrace.pipeline.backfill.records import (
    CANCELLED,
    DONE,
    FAILED,
    PAUSED,
    READY,
    RUNNING,
    Record,
    Tally,
)

from .tables import Tables, now_ms, record_of

_RECENT_SECONDS = 60.0
_FREE_STEPS = 8


class Journal(Tables):
    """The records of backfills, for people."""

    def create(self, uid: str, **columns: Any) -> None:
        """Store a new backfill; a worker may take it from now on."""
        with self._connected():
            apps.get_model("tailrace", "Backfill").objects.using(self.alias).create(
                uid=uid, created_at=datetime.now(UTC), **columns
            )

    def change_state(self, uid: str, allowed: Sequence[str], state: str) -> bool:
        """Change a state if it is one of ``allowed``; returns whether it was.

        Two people at once get one change: the other one's is refused.
        """
        ended = datetime.now(UTC) if state == CANCELLED else None
        with self._connected():
            rows = self._backfills(uid).filter(state__in=allowed)
            return bool(rows.update(state=state, finished_at=ended))

    def retry_failed(self, uid: str) -> int:
        """Make failed steps ready again, and have the backfill run; returns how many (1 for a
        plan that failed)."""
        with self._connected(), transaction.atomic(using=self.alias):
            rows = self._backfills(uid).select_for_update()
            if rows.filter(state__in=(RUNNING, PAUSED, FAILED)).first() is None:
                return 0
            failed = self._steps(uid).filter(state=FAILED)
            count: int = failed.update(state=READY, attempts=0, lease_ms=0, worker="", ended_ms=0)
            is_unplanned = self._backfills(uid).filter(state=FAILED, is_planned=False)
            if not count and not is_unplanned.exists():
                return 0
            self._backfills(uid).filter(state=FAILED).update(state=RUNNING, finished_at=None)
            return max(count, 1)

    def tally(self, uid: str) -> Tally:
        """Return the steps added up."""
        now = now_ms()
        since = now - int(_RECENT_SECONDS * 1000)
        counts: Counter[str] = Counter()
        rows: Counter[str] = Counter()
        with self._connected():
            steps = self._steps(uid)
            for state, number, some in steps.values_list("state").annotate(
                Count("number"), Sum("rows")
            ):
                counts[state], rows[state] = number, some or 0
            recent = steps.filter(state=DONE, ended_ms__gte=since)
            ended = recent.aggregate(rows=Sum("rows"))
            started = self._backfills(uid).values_list("created_at", flat=True).first()
        age = (now / 1000 - started.timestamp()) if started else _RECENT_SECONDS
        return Tally(
            steps=dict(counts),
            rows_planned=sum(rows.values()),
            rows_settled=rows[DONE],
            recent_rows=ended["rows"] or 0,
            recent_seconds=max(0.5, min(_RECENT_SECONDS, age)),
            running_rows=rows[RUNNING],
        )

    def row(self, uid: str) -> Any:
        """Return the model's object of a backfill, or ``None``."""
        with self._connected():
            return self._backfills(uid).first()

    def latest(self, limit: int = 50) -> list[Record]:
        """Return the newest backfills, the newest first."""
        with self._connected():
            objects = apps.get_model("tailrace", "Backfill").objects.using(self.alias)
            return [record_of(row) for row in objects.order_by("-id")[:limit]]

    def running(self) -> list[Record]:
        """Return the backfills that run, the oldest first."""
        with self._connected():
            objects = apps.get_model("tailrace", "Backfill").objects.using(self.alias)
            return [record_of(row) for row in objects.filter(state=RUNNING).order_by("id")]

    def failures(self, uid: str, limit: int = 50) -> list[tuple[int, str, str]]:
        """Return number, label and reason of the first steps that failed."""
        with self._connected():
            failed = self._steps(uid).filter(state=FAILED).order_by("number")
            return list(failed.values_list("number", "label", "error")[:limit])

    def free_steps(self, uid: str) -> int:
        """Return how many steps a worker could take now, up to a few."""
        with self._connected():
            free = self._steps(uid).filter(state__in=(READY, RUNNING), lease_ms__lte=now_ms())
            return len(free.values_list("number", flat=True)[:_FREE_STEPS])
