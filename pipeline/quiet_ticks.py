"""Our ticks stay out of the logs of workers and beat, which at INFO would get lines each second.

Warnings and errors about them are logged, and with ``--loglevel=DEBUG`` all of it is.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

_LOGGERS = (
    "celery.worker.strategy",  # "received"
    "celery.worker.request",  # "discarding", of ticks that have expired
    "celery.app.trace",  # "succeeded"
    "celery.beat",  # "sending due task"
)


class _WithoutTasks(logging.Filter):
    """Drops what INFO says of some tasks."""

    def __init__(self, tasks: Collection[str]) -> None:
        super().__init__()
        self._tasks = frozenset(tasks)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.INFO:
            return True
        # A worker gives a mapping, and beat the names of the entry and of the task.
        args = record.args
        names = (args.get("name"),) if isinstance(args, Mapping) else args or ()
        if not any(isinstance(name, str) and name in self._tasks for name in names):
            return True
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def keep_quiet(tasks: Collection[str]) -> None:
    """Keep some tasks out of Celery's own logs at INFO; for a process once.

    Args:
        tasks: Their names.
    """
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, _WithoutTasks) for one in logger.filters):
            logger.addFilter(_WithoutTasks(tasks))
