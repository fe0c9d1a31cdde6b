"""The Celery tasks. They carry ticks, not data: losing or doubling one does no harm."""

from __future__ import annotations

import logging

from celery import Task, shared_task

from .backfill import running
from .chores import Outcome
from .context import suppress_recording
from .errors import (
    BackendError,
    BackendMisconfigured,
    StreamUnavailable,
    TailraceError,
    TransientBackendError,
)
from .runtime import runtime

logger = logging.getLogger("tailrace")

TICK = "tailrace.tick"
DRAIN = "tailrace.drain"
CHORE = "tailrace.chore"
BACKFILL = "tailrace.backfill"
BACKFILLS = "tailrace.backfills"

_STALE_SECONDS = 30.0
"""A tick that waited so long is thrown away: there is a newer one by now."""


@shared_task(name=TICK, ignore_result=True, acks_late=False)
def tick() -> None:
    """Start a drain for every shard that has something to drain."""
    try:
        for alias, shard in runtime().pending():
            _send_drain(alias, shard)
    except StreamUnavailable as error:
        logger.warning("no drain this time: %s", error)


@shared_task(name=DRAIN, ignore_result=True, acks_late=False, bind=True)
def drain(self: Task, alias: str, shard: int) -> None:
    """Drain one shard into one backend for a while; go on later if there is more.

    Args:
        alias: The backend.
        shard: The shard's number.
    """
    try:
        result = runtime().drain(alias, shard)
    except (StreamUnavailable, TransientBackendError) as error:
        # The data stays where it is, and the next tick tries again.
        logger.warning("drain of shard %s into %r put off: %s", shard, alias, error)
        return
    except BackendMisconfigured as error:
        logger.error("drain of shard %s into %r stopped, nothing is lost: %s", shard, alias, error)
        return
    if not result.is_empty:
        _send_drain(alias, shard)


@shared_task(name=CHORE, ignore_result=True, acks_late=False)
def chore(name: str) -> None:
    """Do one chore; it is due again anyway, so a failure is logged and no more.

    Args:
        name: Which, of those that the settings ask for.
    """
    try:
        with suppress_recording():
            outcome = runtime().chores[name].run()
    except TailraceError as error:
        logger.error("chore %s failed, it is tried again when it is due: %s", name, error)
    else:
        goes_on = isinstance(outcome, Outcome) and not outcome.is_finished
        detail = outcome.detail if isinstance(outcome, Outcome) else outcome
        logger.info("chore %s: %s%s", name, detail, ", goes on" if goes_on else "")
        if goes_on:
            config = runtime().config
            chore.apply_async((name,), queue=config.queue, expires=_STALE_SECONDS)


@shared_task(name=BACKFILLS, ignore_result=True, acks_late=False)
def backfills() -> None:
    """See to it that each backfill that runs has workers, whatever became of earlier tasks."""
    try:
        for uid, count in running.runner().wanted():
            for _ in range(count):
                _send_backfill(uid)
    except BackendError as error:
        logger.warning("no look at backfills this time: %s", error)


@shared_task(name=BACKFILL, ignore_result=True, acks_late=False)
def backfill(uid: str) -> None:
    """Do steps of a backfill for a while; go on later if there are more.

    Args:
        uid: The backfill's.
    """
    has_own_queue = runtime().config.backfill_queue is not None
    seconds = running.OWN_QUEUE_TURN_SECONDS if has_own_queue else running.TURN_SECONDS
    try:
        outcome = running.runner().work(uid, seconds)
    except BackendError as error:
        # Its steps stay where they are, and the next look starts it again.
        logger.warning("backfill %s put off: %s", uid, error)
        return
    if outcome == "more":
        _send_backfill(uid)


def _send_backfill(uid: str) -> None:
    config = runtime().config
    queue = config.backfill_queue or config.queue
    backfill.apply_async((uid,), queue=queue, expires=_STALE_SECONDS)


def _send_drain(alias: str, shard: int) -> None:
    config = runtime().config
    drain.apply_async((alias, shard), queue=config.queue, expires=_STALE_SECONDS)
