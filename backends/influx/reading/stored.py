"""Names as points have them: what reading needs of ``influx/layout.py``."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from tailrace.backends.influx import layout

ID = layout.ID_FIELD
TRACE = layout.TRACE_FIELD
OF_EVERY_EVENT = (ID, TRACE)
HIDDEN_TAGS = layout.HIDDEN_TAGS

measurement = tag_key = layout.encode_name
tag_value = layout.encode_value
plain_tag_key = plain_tag_value = plain_measurement = layout.decode


def own_key(name: str) -> str:
    """Return the key of a field's values of the first type that it had."""
    return layout.encode_name(name)


def number_keys(name: str) -> tuple[str, ...]:
    """Return the keys of a field's numbers, other than its own."""
    return layout.typed_key(name, "int"), layout.typed_key(name, "float")


def value_keys(name: str) -> tuple[str, ...]:
    """Return the keys of a field's values that are not ``None``."""
    kinds = [kind for kind in layout.KINDS if kind != "none"]
    return own_key(name), *(layout.typed_key(name, kind) for kind in kinds)


def all_keys(name: str) -> tuple[str, ...]:
    """Return every key that a field may be under."""
    return tuple(layout.field_keys(name))


def field(key: str, value: Any) -> tuple[str, Any] | None:
    """Return the name and the value of a stored field; ``None`` of reserved ones."""
    found = layout.decode_field(key)
    if found is None:
        return None
    name, kind = found
    return name, layout.field_value(kind, value)


def event_id(values: Mapping[str, Any]) -> bytes:
    """Return the event's id, given its stored fields; empty where others wrote the point."""
    text = values.get(ID)
    return uuid.UUID(text).bytes if text else b""
