"""Which Django models have their rows written behind, and what those are called as events."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, TypeVar

from django.apps import apps
from django.db import models

from tailrace.pipeline.event import MEASUREMENT_MAX_CHARS
from tailrace.pipeline.readings import Target

_Model = TypeVar("_Model", bound=type)

_registered: dict[type, str] = {}
_SUFFIX = "reading"


def register_model(model: _Model, measurement: str = "") -> _Model:
    """Have the rows of a model written behind; works as a decorator of the model's class.

    Models of readings (``ReadingModel``) need no registration.

    Args:
        model: A Django model with a table of its own.
        measurement: What its rows are called among events; ``app_label.modelname`` without.
    """
    _registered[model] = measurement
    _by_measurement.cache_clear()
    return model


def unregister_model(model: type) -> None:
    """Undo :func:`register_model`; for tests."""
    _registered.pop(model, None)
    _by_measurement.cache_clear()


def is_reading(model: Any) -> bool:
    """Return whether a model is one of readings, with a device and a timestamp."""
    return bool(getattr(model, "is_written_behind", False))


def written_models() -> dict[str, Any]:
    """Return the models that have their rows written behind, by measurement.

    None, while Django is not set up: the memory backend does without it.
    """
    return _by_measurement() if apps.models_ready else {}


def measurement_of(model: Any) -> str:
    """Return what a model's rows are called among events."""
    if is_reading(model):
        name: str = model.__name__.lower()
        return str(model.reading_type) or name.removesuffix(_SUFFIX) or name
    return _registered.get(model) or str(model._meta.label_lower)


def target_of(model: Any) -> Target:
    """Return what the pipeline has to know of a model.

    Raises:
        ValueError: its rows cannot be written behind; says what to do.
    """
    if not _is_model(model):
        raise ValueError(f"{model!r:.80} is no Django model")
    meta = model._meta
    label = meta.label
    if model not in _candidates():
        raise ValueError(
            f"{label} is not written behind: derive it from "
            "tailrace.django_integration.readings.ReadingModel, or call register_model()"
        )
    measurement = measurement_of(model)
    owner = _by_measurement().get(measurement)
    if owner is not model:
        other = "nothing" if owner is None else owner._meta.label
        raise ValueError(f"{label} is called {measurement!r}, and that name means {other}")
    encodings = {f.name: kind for f in meta.concrete_fields if (kind := encoding_of(f))}
    return Target(measurement, encodings)


def encoding_of(field: Any) -> str | None:
    """Return how a field's values travel; ``None`` for numbers, booleans, text and times."""
    if isinstance(field, models.JSONField):
        return "json"
    return "base64" if isinstance(field, models.BinaryField) else None


def model_problems(reserved: Iterable[str]) -> list[tuple[str, str]]:
    """Return what is wrong with these models, each with a hint; for a system check.

    Args:
        reserved: Measurements that recorders use.
    """
    problems = []
    names: dict[str, Any] = dict.fromkeys(reserved)
    for model in _candidates():
        meta, name = model._meta, measurement_of(model)
        if name in names:
            taken = "a recorder" if names[name] is None else names[name]._meta.label
            problems.append(
                (
                    f"The rows of {meta.label} are called {name!r}, and so is what {taken} makes.",
                    "Give the model another reading_type, or register_model() another name.",
                )
            )
        names.setdefault(name, model)
        if len(name) > MEASUREMENT_MAX_CHARS:
            problems.append(
                (
                    f"The name {name[:40]!r}... of {meta.label} has {len(name)} characters.",
                    f"Give it one of at most {MEASUREMENT_MAX_CHARS}.",
                )
            )
        if any(field.model._meta.db_table != meta.db_table for field in meta.concrete_fields):
            problems.append(
                (
                    f"{meta.label} has columns in two tables, which cannot be written behind.",
                    "Derive it from abstract models only.",
                )
            )
    return problems


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, models.Model)


def _candidates() -> list[Any]:
    readings = [model for model in apps.get_models() if is_reading(model)]
    others = [model for model in _registered if model not in readings]
    return [m for m in readings + others if not (m._meta.abstract or m._meta.proxy)]


@functools.cache
def _by_measurement() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in _candidates():
        found.setdefault(measurement_of(model), model)
    return found
