"""The Celery tasks. They carry ticks, not data: losing or doubling one does no harm."""

from __future__ import annotations

import logging

from celery import Task, shared_task

from .context import suppress_recording
from .errors import (
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
        logger.info("chore %s: %s", name, outcome)


def _send_drain(alias: str, shard: int) -> None:
    config = runtime().config
    drain.apply_async((alias, shard), queue=config.queue, expires=_STALE_SECONDS)
