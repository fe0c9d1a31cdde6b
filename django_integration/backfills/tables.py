"""The tables of backfills on one database alias."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from django.apps import apps

from tailrace.backends.django_errors import translated_errors
from tailrace.backends.private_connection import private_connection
from tailrace.pipeline.backfill.contracts import StepResult
from tailrace.pipeline.backfill.records import Record


class Tables:
    """Backfills and their steps, by connections of our own."""

    def __init__(self, alias: str) -> None:
        """Keep the alias; connect to nothing yet."""
        self.alias = alias

    def _backfills(self, uid: str) -> Any:
        return apps.get_model("tailrace", "Backfill").objects.using(self.alias).filter(uid=uid)

    def _steps(self, uid: str) -> Any:
        model = apps.get_model("tailrace", "BackfillStep")
        return model.objects.using(self.alias).filter(backfill=uid)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        with translated_errors(self.alias), private_connection(self.alias):
            yield


def record_of(row: Any) -> Record:
    """Return a row of ``Backfill`` as the engine sees it."""
    ended = row.finished_at
    result = msgspec.json.decode(row.result, type=StepResult) if row.result else StepResult()
    return Record(
        uid=row.uid,
        kind=row.kind,
        values=row.parameters,
        state=row.state,
        is_planned=row.is_planned,
        workers=row.workers,
        created_by=row.created_by,
        created_ms=int(row.created_at.timestamp() * 1000),
        finished_ms=int(ended.timestamp() * 1000) if ended else 0,
        is_throttled=row.is_throttled,
        finish_notes=result.notes,
    )


def now_ms() -> int:
    """Return this host's clock, in milliseconds since 1970: leases are kept by it."""
    return int(time.time() * 1000)
