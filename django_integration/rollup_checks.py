"""Checks of ``ROLLUPS`` and ``RETENTION`` against the host's models and the backends.

What is wrong with an entry by itself is E002's (``tailrace.pipeline.config``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from tailrace.backends.base import BaseBackend
from tailrace.backends.reading.arguments import make_filters
from tailrace.backends.reading.columns import ReadingSchema
from tailrace.backends.registry import backends
from tailrace.backends.retention.plan import own_names
from tailrace.backends.retention.targets import RAW_MESSAGES, RawSchema
from tailrace.backends.written_models import is_reading, measurement_of, written_models
from tailrace.pipeline.retention import EVERYTHING, Policy
from tailrace.pipeline.rollup import Rollup, rollups_of

from . import conf
from .rollup_chores import declared_policies

_LABEL = "write a measurement, or app_label.Model of a model that derives from ReadingModel"


def check_rollups(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[Any]:
    """E005, W009: what a rollup is of exists, holds numbers, and is kept somewhere."""
    messages: list[Any] = []
    config = conf.get_config()
    for name, rollup in rollups_of(config.rollups)[0].items():
        where = f"TAILRACE['ROLLUPS'][{name!r}]"
        found = [
            checks.Error(f"{where}: {problem}.", hint="See docs/rollups.md.", id="tailrace.E005")
            for problem in _rollup_problems(rollup)
        ]
        messages += found
        if not found and name in config.rollups and not _keepers(rollup):
            messages.append(
                checks.Warning(
                    f"{where} is of {rollup.source!r}, and no backend that stores this keeps "
                    "rollups: questions are answered from the rows.",
                    hint="Store it in a backend on a Django database, or take the rollup out.",
                    id="tailrace.W009",
                )
            )
    return messages


def check_retention(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[Any]:
    """E006, E007, W008: a policy is about something there is, and only one is about it."""
    messages: list[Any] = []
    policies = declared_policies(conf.get_config())
    for target, policy in policies.items():
        where = f"TAILRACE['RETENTION'][{target!r}]"
        if policy.is_of_rollup or target == EVERYTHING:
            continue
        problem = _policy_problem(policy)
        if problem:
            message = f"{where}: {problem}."
            hint = "See docs/retention.md."
            messages.append(checks.Error(message, hint=hint, id="tailrace.E006"))
        elif not _storing(_measurement(target)):
            messages.append(
                checks.Warning(
                    f"{where}: no backend stores {target!r}, so there is nothing to delete.",
                    hint="Correct the name, or the MEASUREMENTS and EXCLUDE of BACKENDS.",
                    id="tailrace.W008",
                )
            )
    for model in written_models().values():
        both = [name for name in own_names(model) if name in policies]
        if len(both) > 1:
            messages.append(
                checks.Error(
                    f"TAILRACE['RETENTION'] has {both[0]!r} and {both[1]!r}, which are the same "
                    "table.",
                    hint="Keep one of them.",
                    id="tailrace.E007",
                )
            )
    return messages


def _rollup_problems(rollup: Rollup) -> Iterator[str]:
    model = _model(rollup.source)
    if model is None:
        if rollup.is_of_model:
            yield f"SOURCE is {rollup.source!r}, and there is no such model; {_LABEL}"
        return
    try:
        schema = ReadingSchema(model)
    except ValueError as error:
        yield f"SOURCE: {error}"
        return
    for field in rollup.fields:
        try:
            schema.column(field) if rollup.functions == ("count",) else schema.kind(field)
        except ValueError as error:
            yield f"FIELDS: {error}"
    for name in rollup.group_by:
        try:
            schema.grouped(name)
        except ValueError as error:
            yield f"GROUP_BY: {error}"


def _policy_problem(policy: Policy) -> str:
    """Return what is wrong with a policy; nothing if it is right."""
    model = _model(policy.target)
    source: Any = policy.target
    try:
        if model is not None and model._meta.label == RAW_MESSAGES:
            source = RawSchema(model)
        elif model is not None and is_reading(model):
            source = ReadingSchema(model)
        elif model is not None or Rollup.is_label(policy.target):
            return f"{policy.target!r} is no model of readings; {_LABEL}"
        make_filters(source, policy.hold)
        for tags, _ in policy.by_tag:
            make_filters(source, tags)
    except ValueError as error:
        return f"HOLD or BY_TAG: {error}"
    return ""


def _model(source: str) -> Any:
    """Return the model that a source names, by its label or by the name of its readings."""
    if Rollup.is_label(source):
        try:
            return apps.get_model(source)
        except (LookupError, ValueError):
            return None
    model = written_models().get(source)
    return model if is_reading(model) else None


def _measurement(target: str) -> str:
    model = _model(target)
    if model is None or model._meta.label == RAW_MESSAGES:
        return target
    return measurement_of(model)


def _storing(measurement: str) -> list[BaseBackend]:
    """Return the backends that store a measurement; raw messages are on any Django database."""
    found = []
    for alias, entry in conf.get_config().backends.items():
        try:
            backend = backends.make(alias)
        except ImproperlyConfigured:
            continue  # E003 has said so
        takes = measurement == RAW_MESSAGES or entry.accepts(measurement)
        if takes and backend.features.keeps_events:
            found.append(backend)
    return found


def _keepers(rollup: Rollup) -> list[BaseBackend]:
    storing = _storing(_measurement(rollup.source))
    nothing = BaseBackend.refresh_due
    return [backend for backend in storing if type(backend).refresh_due is not nothing]
