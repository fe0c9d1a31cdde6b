"""Puts the parts together: settings, backends, pipeline, recorders, Celery."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from tailrace.backends.registry import backends
from tailrace.backends.written_models import target_of
from tailrace.pipeline import readings, runtime
from tailrace.pipeline.backfill import running
from tailrace.pipeline.chores import Chore
from tailrace.pipeline.recording import configure

from . import conf
from .backfills import service
from .reading_routes import routed
from .recorders import install_recorders, uninstall_recorders
from .rollup_chores import rollup_chores

logger = logging.getLogger("tailrace")

_BACKENDS_SECONDS = 3600.0


def wire() -> None:
    """Set Tailrace up in this process, by the settings as they are now.

    Starts no thread and opens no connection: the first recorded event does that, so that a
    process may fork after it.
    """
    config = conf.get_config()
    for problem in conf.get_problems():
        logger.error("%s %s (its default counts until then)", problem.message, problem.hint)
    backends.configure(conf.get_config)
    runtime.install(_make_runtime)
    readings.install(target_of)
    running.install(service.Running())
    configure(config)
    uninstall_recorders()
    if config.enabled:
        install_recorders(config)


def _make_runtime() -> runtime.Runtime:
    # Made when first needed: until then, other apps may still register their models.
    config = routed(conf.get_config())
    chores = [Chore("backends", _BACKENDS_SECONDS, _maintain_backends)]
    for part, seconds in config.maintenance.items():
        chores.append(Chore(part, seconds, partial(_maintain_databases, part)))
    chores += rollup_chores(config)
    return runtime.Runtime(config, backends.get, chores)


def _maintain_backends() -> dict[str, str]:
    return {alias: backends.get(alias).maintain() for alias in backends.aliases}


def _maintain_databases(part: str) -> object:
    from .databases.maintenance import run_maintenance

    # Months ahead are no setting of their own: a month that is missing stops its writers.
    chosen: dict[str, Any] = {part: True}
    return run_maintenance(**chosen, months=part == "cleanup")


def on_setting_changed(*, setting: str, **kwargs: Any) -> None:
    """Follow ``override_settings``."""
    if setting == "TAILRACE":
        conf.forget()
        wire()
