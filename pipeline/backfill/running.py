"""How this process works on backfills; the Django side says so.

Celery's tasks call it, and know nothing else of backfills.
"""

from __future__ import annotations

from typing import Protocol

from tailrace.pipeline.errors import ConfigurationError

from .engine import Outcome

TURN_SECONDS = 2.0
"""How long a task works where it shares its queue with the drain's tasks: they wait meanwhile."""
OWN_QUEUE_TURN_SECONDS = 20.0
LOOK_SECONDS = 5.0
"""How often beat looks for backfills that have no worker: after a broker's or worker's end."""


class Runner(Protocol):
    """What works on backfills."""

    def work(self, uid: str, seconds: float) -> Outcome:
        """Work on one for a while; see :meth:`~.engine.Engine.work`."""

    def wanted(self) -> list[tuple[str, int]]:
        """Return the backfills that want workers, and how many more."""


_installed: Runner | None = None


def install(runner: Runner) -> None:
    """Say what works on backfills in this process."""
    global _installed
    _installed = runner


def runner() -> Runner:
    """Return what works on backfills.

    Raises:
        ConfigurationError: nobody has said so.
    """
    if _installed is None:
        raise ConfigurationError(
            "Tailrace is not set up in this process: add 'tailrace.django_integration' to "
            "INSTALLED_APPS and call django.setup()."
        )
    return _installed
