"""What a target's own database remembers of the steps that were written into it.

Every database that has Tailrace's tables has this one. Where the backfill itself is kept there,
too, the marker is the step's own row, so that it is done by the very transaction that wrote
its rows.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from django.apps import apps
from django.db import transaction
from django.db.utils import IntegrityError

from tailrace.pipeline.backfill.contracts import Marker, StepResult
from tailrace.pipeline.backfill.records import DONE
from tailrace.pipeline.errors import TransientBackendError


def found_result(using: str, marker: Marker) -> StepResult | None:
    """Return what a step did that is done; ``None`` if it is not."""
    done = _rows(using, marker).filter(state=DONE)
    text = done.values_list("result", flat=True).first()
    return None if text is None else msgspec.json.decode(text or "{}", type=StepResult)


def put_result(using: str, marker: Marker, result: StepResult) -> None:
    """Say that a step is done, in the transaction that is open on ``using``.

    Raises:
        TransientBackendError: another worker did it meanwhile; this transaction must not
            commit, and the next attempt finds the other's result.
    """
    columns: dict[str, Any] = {
        "state": DONE,
        "result": msgspec.json.encode(result).decode(),
        "error": "",
        "ended_ms": int(time.time() * 1000),
    }
    if _rows(using, marker).exclude(state=DONE).update(**columns):
        return
    model = apps.get_model("tailrace", "BackfillStep")
    row = model(backfill=marker.backfill, number=marker.number, **columns)
    try:
        with transaction.atomic(using=using):
            row.save(using=using, force_insert=True)
    except IntegrityError as error:
        raise TransientBackendError(f"another worker did step {marker.number}") from error


def forget_markers(using: str, backfill: str) -> None:
    """Remove the markers of a backfill that is kept in another database."""
    backfills = apps.get_model("tailrace", "Backfill").objects.using(using)
    if not backfills.filter(uid=backfill).exists():
        _model(using).filter(backfill=backfill).delete()


def _rows(using: str, marker: Marker) -> Any:
    return _model(using).filter(backfill=marker.backfill, number=marker.number)


def _model(using: str) -> Any:
    return apps.get_model("tailrace", "BackfillStep").objects.using(using)
