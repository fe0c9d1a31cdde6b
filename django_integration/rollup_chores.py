"""What beat does for rollups and retention. None of it ever runs in a request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from tailrace.backends.registry import backends
from tailrace.pipeline.chores import Chore, Outcome
from tailrace.pipeline.config import Config
from tailrace.pipeline.errors import BackendError, NotSupportedByBackend
from tailrace.pipeline.retention import Policy, policies_of
from tailrace.pipeline.rollup import rollups_of

logger = logging.getLogger("tailrace")

_REFRESH_SECONDS = 60.0
"""How often beat looks whether a rollup that no setting declares is due."""


def rollup_chores(config: Config) -> list[Chore]:
    """Return beat's entries.

    One for all rollups, as often as the most frequent of them is due, since each keeps itself
    when it was refreshed last; and one for retention. Both are there even where the settings
    declare nothing: code may have (``register_rollup()``, ``create_retention_policy()``).
    """
    rollups, _ = rollups_of(config.rollups)
    intervals = [float(each.schedule_interval.seconds) for each in rollups.values()]
    every = min([_REFRESH_SECONDS, *intervals])
    return [
        Chore("refresh", every, _refresh),
        Chore("retention", config.retention_interval_seconds, partial(_sweep, config)),
    ]


def declared_policies(config: Config) -> dict[str, Policy]:
    """Return the policies of the settings, by target; those that are wrong are left out."""
    rollups, _ = rollups_of(config.rollups)
    return policies_of(config.retention, rollups)[0]


def _refresh() -> Outcome:
    done = _of_each(lambda backend: backend.refresh_due())
    return Outcome({alias: outcome for alias, outcome in done.items() if outcome})


def _sweep(config: Config) -> Outcome:
    policies = declared_policies(config)
    every = config.retention_interval_seconds

    def sweep(backend: Any) -> object:
        return backend.sweep(policies, seconds=config.drain_tick_seconds, every_seconds=every)

    done = _of_each(sweep)
    is_finished = all(getattr(outcome, "is_finished", True) for outcome in done.values())
    return Outcome({alias: str(outcome) for alias, outcome in done.items()}, is_finished)


def _of_each(work: Callable[[Any], object]) -> dict[str, object]:
    """Do it for each backend; trouble with one is no reason to leave out the others."""
    done: dict[str, object] = {}
    for alias in backends.aliases:
        try:
            done[alias] = work(backends.get(alias))
        except NotSupportedByBackend:
            continue  # it keeps nothing that could be old
        except BackendError as error:
            logger.error("backend %r: %s; it is tried again when it is due", alias, error)
            done[alias] = f"failed: {error}"
    return done
