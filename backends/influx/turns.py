"""Copies take turns: one at a time looks what is there, and writes what is missing.

A lock of the database would do, but for two things: a copy commits in the middle of its work,
which lets go of every lock, and it waits for InfluxDB meanwhile. So whose turn it is stands in the
checkpoint of the shard of copies, which no stream has.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from tailrace.pipeline.errors import TransientBackendError

STALE_SECONDS = 60.0
"""Whoever is silent for so long is taken for dead; it finds out, and its step is made again."""
WAIT_SECONDS = 20.0
_LOOK_SECONDS = 0.05


def take_turn(lock: Callable[[], Any], commit: Callable[[], None]) -> Any:
    """Wait for our turn; return the checkpoint's row, locked.

    Args:
        lock: Locks the row and returns it; ``None`` if there is none.
        commit: Commits, and begins another transaction.

    Raises:
        TransientBackendError: somebody else takes too long; try again.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while (row := lock()) is not None and _is_taken(row):
        commit()
        if time.monotonic() >= deadline:
            raise TransientBackendError(
                "another copy or import has been writing to this bucket for "
                f"{WAIT_SECONDS:.0f} s; try again"
            )
        time.sleep(_LOOK_SECONDS)
    if row is not None:
        row.epoch = secrets.token_hex(16)
        row.save(update_fields=["epoch", "updated_at"])
        commit()
        row = lock()
    return row


def keep_turn(rows: Any, row: Any) -> None:
    """Say that we are still at it.

    Args:
        rows: The checkpoints.
        row: Ours.

    Raises:
        TransientBackendError: we have been taken for dead.
    """
    now = timezone.now()
    if not rows.filter(pk=row.pk, epoch=row.epoch).update(updated_at=now):
        raise TransientBackendError(
            f"this copy was silent for {STALE_SECONDS:.0f} s, and another one went on; try again"
        )
    row.updated_at = now


def end_turn(rows: Any, row: Any) -> None:
    """Let the next one begin.

    Args:
        rows: The checkpoints.
        row: Ours; nothing is done if it has become somebody else's.
    """
    rows.filter(pk=row.pk, epoch=row.epoch).update(epoch="")


def _is_taken(row: Any) -> bool:
    stale = timezone.now() - timedelta(seconds=STALE_SECONDS)
    return bool(row.epoch) and row.updated_at > stale
