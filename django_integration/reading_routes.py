"""Which backend gets the rows of which model.

A transaction holds one database, so rows of a model can only be written by the backend that
keeps its checkpoint on the alias where the model lives. Backends without a Django database
(memory, InfluxDB) take every measurement that their settings let through.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from typing import Any

import msgspec
from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from tailrace.backends.model_tables import missing_backend, table_of
from tailrace.backends.registry import backends
from tailrace.backends.written_models import model_problems, written_models
from tailrace.pipeline.config import Config

from . import conf

RECORDED = ("request", "query", "exception")
"""Measurements that recorders make."""


def routed(config: Config) -> Config:
    """Return the settings with the measurements of models left to the backend of their alias."""
    excluded: dict[str, list[str]] = {}
    for measurement, model in written_models().items():
        accepting = _accepting(config, measurement)
        home = _home(accepting, table_of(model).alias)
        for backend in accepting:
            if backend != home:
                excluded.setdefault(backend, []).append(glob.escape(measurement))
    entries = {
        name: msgspec.structs.replace(entry, exclude=(*entry.exclude, *excluded.get(name, ())))
        for name, entry in config.backends.items()
    }
    return msgspec.structs.replace(config, backends=entries)


def check_readings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[Any]:
    """E020, E021: models have names of their own, and a backend on their alias."""
    messages: list[Any] = [
        checks.Error(message, hint=hint, id="tailrace.E020")
        for message, hint in model_problems(RECORDED)
    ]
    config = conf.get_config()
    for measurement, model in written_models().items():
        table = table_of(model)
        accepting = _accepting(config, measurement)
        if accepting and table.alias not in accepting.values():
            problem, _, hint = missing_backend(table.label, table.alias).partition(". ")
            messages.append(checks.Error(f"{problem}.", hint=hint, id="tailrace.E021"))
    return messages


def _accepting(config: Config, measurement: str) -> dict[str, str]:
    """Return the database aliases of the backends that the settings let store a measurement."""
    found = {}
    for name, entry in config.backends.items():
        try:
            alias = backends.make(name).get_db_alias()
        except ImproperlyConfigured:
            continue  # a check of its own says so
        if alias is not None and entry.accepts(measurement):
            found[name] = alias
    return found


def _home(accepting: dict[str, str], alias: str) -> str | None:
    """Return the backend that stores rows of a model that lives on an alias.

    Where several do, it is the first, or each row would be there twice. Where none does, it
    is the first of all, which then says what is missing; nothing is lost meanwhile.
    """
    here = [name for name, its in accepting.items() if its == alias]
    return next(iter(here or accepting), None)
