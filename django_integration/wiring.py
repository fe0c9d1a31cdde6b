"""Puts the parts together: settings, backends, pipeline, recorders, Celery."""

from __future__ import annotations

import logging
from typing import Any

from tailrace.backends.registry import backends
from tailrace.pipeline import runtime
from tailrace.pipeline.recording import configure

from . import conf
from .recorders import install_recorders, uninstall_recorders

logger = logging.getLogger("tailrace")


def wire() -> None:
    """Set Tailrace up in this process, by the settings as they are now.

    Starts no thread and opens no connection: the first recorded event does that, so that a
    process may fork after it.
    """
    config = conf.get_config()
    for problem in conf.get_problems():
        logger.error("%s %s (its default counts until then)", problem.message, problem.hint)
    backends.configure(conf.get_config)
    runtime.install(lambda: runtime.Runtime(conf.get_config(), backends.get))
    configure(config)
    uninstall_recorders()
    if config.enabled:
        install_recorders(config)


def on_setting_changed(*, setting: str, **kwargs: Any) -> None:
    """Follow ``override_settings``."""
    if setting == "TAILRACE":
        conf.forget()
        wire()
