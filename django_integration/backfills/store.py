"""The records of backfills in a database of the host; see ``pipeline/backfill/records.py``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.apps import apps
from django.db import transaction
from django.db.models import Q

from tailrace.pipeline.backfill.contracts import Marker, Slice, Step, StepResult
from tailrace.pipeline.backfill.records import (
    CANCELLED,
    DONE,
    FAILED,
    READY,
    RUNNING,
    Record,
)

from .journal import Journal
from .tables import now_ms, record_of

LOG_CHARS = 40_000
"""About 500 lines: the log is one text, read and written whole."""
_LINE_CHARS = 500
_CANDIDATES = 8
"""Steps that a worker tries to take; others may be after the first ones, too."""


class OrmStore(Journal):
    """Backfills and their steps on one database alias: what the engine calls."""

    def get(self, uid: str) -> Record | None:
        with self._connected():
            row = self._backfills(uid).first()
        return record_of(row) if row else None

    def state(self, uid: str) -> str:
        with self._connected():
            found = self._backfills(uid).values_list("state", flat=True).first()
        return str(found or CANCELLED)

    def claim_whole(self, uid: str, worker: str, seconds: float) -> bool:
        with self._connected():
            return self._claim_whole(uid, worker, seconds)

    def release_whole(self, uid: str, worker: str) -> None:
        with self._connected():
            self._backfills(uid).filter(worker=worker).update(worker="", lease_ms=0)

    def forget_plan(self, uid: str) -> None:
        with self._connected():
            self._steps(uid).delete()

    def add_steps(
        self, uid: str, worker: str, first: int, slices: Sequence[Slice], seconds: float
    ) -> bool:
        with self._connected(), transaction.atomic(using=self.alias):
            # The row is locked from here on, so a planner that was taken for dead cannot mix in.
            if not self._claim_whole(uid, worker, seconds):
                return False
            steps = apps.get_model("tailrace", "BackfillStep")
            steps.objects.using(self.alias).bulk_create(
                steps(
                    backfill=uid,
                    number=number,
                    label=slice_.label[:200],
                    spec=_json(slice_.spec),
                    rows=slice_.rows,
                )
                for number, slice_ in enumerate(slices, first)
            )
        return True

    def planned(self, uid: str, worker: str) -> bool:
        with self._connected():
            return bool(self._backfills(uid).filter(worker=worker).update(is_planned=True))

    def claim(self, record: Record, worker: str, seconds: float) -> Step | None:
        now = now_ms()
        with self._connected():
            steps = self._steps(record.uid)
            busy = steps.filter(state=RUNNING, lease_ms__gt=now).count()
            if busy >= record.workers or self.state(record.uid) != RUNNING:
                return None
            free = steps.filter(state__in=(READY, RUNNING), lease_ms__lte=now)
            for row in free.order_by("state", "number")[:_CANDIDATES]:
                # Compare and set: whoever comes second changes nothing.
                is_ours = steps.filter(
                    number=row.number, state=row.state, attempts=row.attempts, worker=row.worker
                ).update(
                    state=RUNNING,
                    worker=worker,
                    attempts=row.attempts + 1,
                    lease_ms=now + int(seconds * 1000),
                )
                if is_ours:
                    return _step_of(row)
        return None

    def renew(self, marker: Marker, worker: str, seconds: float) -> bool:
        return self._settle(marker, worker, lease_ms=now_ms() + int(seconds * 1000))

    def done(self, marker: Marker, worker: str, result: StepResult) -> bool:
        return self._settle(
            marker, worker, state=DONE, result=_json(result), error="", ended_ms=now_ms()
        )

    def failed(self, marker: Marker, worker: str, reason: str) -> bool:
        return self._settle(marker, worker, state=FAILED, error=reason, ended_ms=now_ms())

    def put_off(self, marker: Marker, worker: str, reason: str, seconds: float) -> bool:
        with self._connected():
            row = self._held(marker, worker).first()
        if row is None:
            return False
        return self._settle(
            marker,
            worker,
            state=READY,
            worker="",
            error=reason,
            attempts=max(0, row.attempts - 1),
            lease_ms=now_ms() + int(seconds * 1000),
        )

    def has_open_steps(self, uid: str) -> bool:
        with self._connected():
            return bool(self._steps(uid).filter(state__in=(READY, RUNNING)).exists())

    def has_failed_steps(self, uid: str) -> bool:
        with self._connected():
            return bool(self._steps(uid).filter(state=FAILED).exists())

    def results(self, uid: str) -> Iterable[StepResult]:
        with self._connected():
            done = self._steps(uid).filter(state=DONE).order_by("number")
            for text in done.values_list("result", flat=True).iterator(chunk_size=500):
                yield msgspec.json.decode(text or "{}", type=StepResult)

    def finish(self, uid: str, worker: str, state: str, total: StepResult) -> bool:
        with self._connected():
            mine = self._backfills(uid).filter(state=RUNNING, worker=worker)
            changed = mine.update(state=state, result=_json(total), finished_at=datetime.now(UTC))
        return bool(changed)

    def log(self, uid: str, text: str) -> None:
        line = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {_one_line(text)}\n"
        with self._connected(), transaction.atomic(using=self.alias):
            row = self._backfills(uid).select_for_update().only("log").first()
            if row is not None:
                self._backfills(uid).update(log=_tail(row.log + line))

    # --- inside

    def _claim_whole(self, uid: str, worker: str, seconds: float) -> bool:
        now = now_ms()
        free = Q(lease_ms__lte=now) | Q(worker=worker)
        rows = self._backfills(uid).filter(free, state=RUNNING)
        return bool(rows.update(worker=worker, lease_ms=now + int(seconds * 1000)))

    def _settle(self, marker: Marker, holder: str, **columns: Any) -> bool:
        with self._connected():
            return bool(self._held(marker, holder).update(**columns))

    def _held(self, marker: Marker, worker: str) -> Any:
        steps = self._steps(marker.backfill)
        return steps.filter(number=marker.number, state=RUNNING, worker=worker)


def _step_of(row: Any) -> Step:
    spec = msgspec.json.decode(row.spec)
    return Step(
        marker=Marker(row.backfill, row.number),
        slice=Slice(label=row.label, rows=row.rows, spec=spec),
        attempt=row.attempts + 1,
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _one_line(text: str) -> str:
    """Return a text on one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)[:_LINE_CHARS]


def _tail(text: str) -> str:
    """Return the last lines of a log."""
    return text if len(text) <= LOG_CHARS else text[-LOG_CHARS:].partition("\n")[2]
