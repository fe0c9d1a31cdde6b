"""From somebody else's JSON to fields that can be stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tailrace.pipeline.event import INT_MAX, INT_MIN, KEY_MAX_CHARS
from tailrace.pipeline.masking import MASK, Masker

FIELDS_MAX = 80
"""Keys beyond these go together into the field ``more``; an event has 100 fields at most."""


def parse_json(text: Any) -> Any:
    """Return what a column of JSON holds: the text itself where it is none.

    Args:
        text: Text, or what the driver has parsed already.
    """
    if not isinstance(text, str | bytes):
        return text
    try:
        return json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return text if isinstance(text, str) else text.decode("utf-8", "replace")


def fields_of(payload: Any, masker: Masker) -> dict[str, Any]:
    """Return a payload as fields, secrets masked at every depth.

    Numbers, booleans and texts stay what they are; lists and mappings become JSON text, integers
    beyond 64 bits text; what is ``None`` is not there.

    Args:
        payload: What :func:`parse_json` gave.
        masker: Takes the secrets out.
    """
    if not isinstance(payload, Mapping):
        return {} if payload is None else {"payload": scalar(masker.mask_value(payload))}
    fields: dict[str, Any] = {}
    more: dict[str, Any] = {}
    for key, value in payload.items():
        if value is None:
            continue
        masked = MASK if masker.mask_name(key) else masker.mask_value(value)
        name = masker.mask_text(key)
        if not name or len(name) > KEY_MAX_CHARS or len(fields) >= FIELDS_MAX:
            more[name] = masked
        else:
            fields[name] = scalar(masked)
    if more:
        fields["more"] = scalar(more)
    return fields


def scalar(value: Any) -> Any:
    """Return a value as a field holds it."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        return str(value)
    return value
