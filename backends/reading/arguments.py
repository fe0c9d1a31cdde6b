"""What a caller gave, checked, as what a query needs. Errors are ``ValueError``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from enum import Enum
from typing import Any

from tailrace.backends.written_models import is_reading, written_models
from tailrace.pipeline.event import KEY_MAX_CHARS, MEASUREMENT_MAX_CHARS

from .columns import ReadingSchema

FUNCTIONS = ("avg", "min", "max", "sum", "count", "p50", "p75", "p90", "p95", "p99")
FILLS = ("null", 0, "previous")
ROWS_MAX_FILLED = 100_000
"""Buckets in the window, when empty ones are filled."""
LIST_MAX = 1_000
"""Names or values in one list."""
DEVICE_TAG = "device_id"
_RESERVED = ("bucket", "result")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

Filters = Mapping[Any, tuple[Any, ...]]
"""What is asked of tags, by name; of a model, by Django field."""


def make_source(measurement_or_model: Any) -> str | ReadingSchema:
    """Return a measurement's name, checked, or a model's schema."""
    if isinstance(measurement_or_model, str):
        name = clean_text(measurement_or_model, "measurement", MEASUREMENT_MAX_CHARS)
        model = written_models().get(name)
        # Readings are not among the events: their name means the model's table.
        return ReadingSchema(model) if is_reading(model) else name
    return ReadingSchema(measurement_or_model)


def make_filters(source: str | ReadingSchema, tags: Any) -> dict[Any, tuple[Any, ...]]:
    """Return what is asked of tags or columns, each as a tuple of the values it may have."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise ValueError(f"tags is {tags!r:.80}; write {{name: value}} or {{name: [values]}}")
    _bound(tags, "tags")
    filters: dict[Any, tuple[Any, ...]] = {}
    for name, wanted in tags.items():
        several = isinstance(wanted, list | tuple | set | frozenset)
        values = _bound(wanted, f"tags[{name!r:.80}]") if several else (wanted,)
        if isinstance(source, ReadingSchema):
            column = source.grouped(name)
            filters[column] = tuple(source.value(column, value) for value in values)
        else:
            key = clean_text(name, "a tag's name", KEY_MAX_CHARS)
            filters[key] = tuple(_tag_value(key, value) for value in values)
    return filters


def clean_text(value: Any, what: str, max_chars: int | None = None) -> str:
    """Return a text that a database can hold.

    Args:
        value: What a caller gave.
        what: What it is, for the error.
        max_chars: How long it may be.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r:.80}; write a text")
    if not value and max_chars:
        raise ValueError(f"{what} is empty")
    if max_chars is not None and len(value) > max_chars:
        raise ValueError(f"{what} has {len(value)} characters; no more than {max_chars} can be")
    if _UNSTORABLE.search(value):
        raise ValueError(
            f"{what} {value!r:.80} has a NUL or half a character in it, which none has"
        )
    return str(value)


def make_field(source: str | ReadingSchema, field: Any, function: str) -> str | None:
    """Return the field's name, if the function can be computed of it."""
    if field is None:
        if function != "count":
            raise ValueError(f"{function} needs a field; only 'count' can do without")
        return None
    if isinstance(source, str):
        return clean_text(field, "field", KEY_MAX_CHARS)
    if function != "count":
        source.kind(field)
    attname: str = source.column(field).attname
    return attname


def make_groups(source: str | ReadingSchema, group_by: Any) -> tuple[str, ...]:
    """Return the names grouped by."""
    names = make_names(group_by, "group_by") or ()
    for name in names:
        if name in _RESERVED:
            raise ValueError(f"group_by has {name!r}, which is what the rows call something else")
        if isinstance(source, ReadingSchema):
            source.grouped(name)
    return names


def make_names(names: Any, what: str) -> tuple[str, ...] | None:
    """Return a list of names, each of them once."""
    if names is None:
        return None
    if isinstance(names, str | bytes | Mapping) or not isinstance(names, Iterable):
        raise ValueError(f"{what} is {names!r:.80}; write a list of names")
    listed = _bound(names, what)
    return tuple(
        dict.fromkeys(clean_text(name, f"a name in {what}", KEY_MAX_CHARS) for name in listed)
    )


def _bound(values: Any, what: str) -> Sequence[Any]:
    listed = list(values)
    if len(listed) > LIST_MAX:
        raise ValueError(f"{what} has {len(listed)} entries; at most {LIST_MAX} can be asked for")
    return listed


def make_limit(limit: Any) -> int | None:
    """Return the limit as databases take it."""
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ValueError(f"limit is {limit!r:.80}; write a number of at least 0")
    return min(limit, 2**62)


def make_fill(fill: Any) -> str | int | None:
    """Return one of ``FILLS``."""
    if fill is None:
        return None
    for known in FILLS:
        if type(fill) is type(known) and fill == known:
            return known
    raise ValueError(f"fill is {fill!r:.80}; write None, 'null', 0 or 'previous'")


def _tag_value(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, int | float):
        value = str(value)  # as record() stores it
    return clean_text(value, f"tags[{name!r:.80}]")


def with_device(source: str | ReadingSchema, filters: dict[Any, Any], device: Any) -> Filters:
    """Return the filters, with that of a device among them."""
    if device is None:
        return filters
    if isinstance(source, ReadingSchema):
        name, value = source.device, source.device_id(device)
    else:
        name = DEVICE_TAG
        value = _tag_value(DEVICE_TAG, getattr(device, "pk", device))
    asked = filters.get(name, (value,))
    return {**filters, name: tuple(each for each in asked if each == value)}


def zone_is_fixed(zone: tzinfo) -> bool:
    """Return the filters, and that of a device with them."""
    """Return one of ``FILLS``."""
    """Return the limit as databases take it."""
    """Return a list of names, each once; ``None`` of none."""
    """Return the names grouped by."""
    """Return the field's name, if the function can be computed of it."""
    """Return whether a zone has one offset for all time, as far as one can see."""
    return isinstance(zone, type(UTC))
