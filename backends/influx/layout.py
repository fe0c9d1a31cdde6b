"""How an event lies in InfluxDB: what the writer promises to the reader.

A point has the event's measurement, tags and fields, and reserved names beside them::

    checkout,plan=pro[,tailrace.slot=3][,tailrace.burst=1] amount=12.5,tailrace.id="0f3c..." <ns>

========================  ======================================================================
tag ``tailrace.slot``     which producer; absent for the first of each hour. Hidden on reading.
tag ``tailrace.burst``    usually absent; see ``influx/identity.py``. Hidden on reading.
field ``tailrace.id``     always there: the event's id, 32 hexadecimal digits
field ``tailrace.trace``  the trace id, where there is one
time                      the event's microsecond, and three digits of ours: ``// 1000``
========================  ======================================================================

**Names.** Measurement, tag keys and field keys pass :func:`encode_name`, tag values
:func:`encode_value`; :func:`decode` undoes both. What line protocol can hold stays as it is, and
what it cannot (nothing, a control character, a backslash) becomes ``~`` and a percent-encoding.
A missing tag is missing, an empty one is ``~``. Texts of fields pass :func:`encode_text`, for the
little that InfluxDB does not give back as it was: an empty one is ``~``, too.

**Types.** A field of InfluxDB has one type in a measurement, and an event's fields may have
another one each time. The first type that a field ever has gets the field's own name; values of
other types go to ``tailrace.int.<name>`` and so on, and ``None`` to ``tailrace.none.<name>``, which
is ``true``. A point has at most one of :func:`field_keys`.

A tag and a field may have the same name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

PREFIX = "tailrace."
SLOT_TAG = "tailrace.slot"
BURST_TAG = "tailrace.burst"
HIDDEN_TAGS = frozenset({SLOT_TAG, BURST_TAG})
ID_FIELD = "tailrace.id"
TRACE_FIELD = "tailrace.trace"

KINDS = ("int", "float", "str", "bool", "none")
PLAIN = "plain"
KIND_OF_TYPE: dict[type, str] = {
    int: "int",
    float: "float",
    str: "str",
    bool: "bool",
    type(None): "none",
}

_MARK = "~"
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\]")
# A server finds the ends of lines by counting quotes, and some count those in keys.
_UNFIT_NAME = re.compile(r'[\x00-\x1f\x7f\\@"]')
_ESCAPED = re.compile(r'[\x00-\x1f\x7f\\%@"]')
_ESCAPED_TEXT = re.compile(r"[\r%]")
_RESERVED_STARTS = (_MARK, "_", "#", PREFIX)
_TYPED = re.compile(rf"tailrace\.({'|'.join(KINDS)})\.(.+)", re.DOTALL)


def encode_name(name: str) -> str:
    """Return a measurement's or key's name as InfluxDB can hold it; see :func:`decode`."""
    # InfluxDB keeps names that begin with an underscore, and "time", for itself, and reads a tag
    # "$" in a filter as the value; a line that begins with # is a comment. Flux cuts a column's
    # name off at an @.
    if (
        not name
        or name in ("time", "$")
        or name.startswith(_RESERVED_STARTS)
        or _UNFIT_NAME.search(name)
    ):
        return _marked(name)
    return name


def encode_value(value: str) -> str:
    """Return a tag's value as InfluxDB can hold it; see :func:`decode`."""
    if not value or value.startswith(_MARK) or _UNFIT.search(value):
        return _marked(value)
    return value


def encode_text(text: str) -> str:
    """Return a text field's value as InfluxDB gives it back; see :func:`decode`."""
    # InfluxDB 2.7 reads the texts A, "", B of a series as A, B, "", and leaves out a CR.
    if not text or text.startswith(_MARK) or "\r" in text:
        return _MARK + _ESCAPED_TEXT.sub(_percent, text)
    return text


def decode(text: str) -> str:
    """Undo :func:`encode_name`, :func:`encode_value` and :func:`encode_text`."""
    return unquote(text[1:]) if text.startswith(_MARK) else text


def typed_key(name: str, kind: str) -> str:
    """Return the key of a field's values that are not of the type its own name stands for."""
    return f"{PREFIX}{kind}.{encode_name(name)}"


def field_keys(name: str) -> Sequence[str]:
    """Return all keys that a field's values may be under; its own name comes first."""
    return encode_name(name), *(typed_key(name, kind) for kind in KINDS)


def decode_field(key: str) -> tuple[str, str] | None:
    """Return a field key's name and kind (``plain`` or one of ``KINDS``).

    ``None`` for the reserved ones, which are no fields of the event.
    """
    if key in (ID_FIELD, TRACE_FIELD):
        return None
    match = _TYPED.fullmatch(key)
    if match is None:
        return decode(key), PLAIN
    return decode(match[2]), match[1]


def field_value(kind: str, value: Any) -> Any:
    """Return what a stored value stands for: ``None`` has a mark, texts may be encoded."""
    if kind == "none":
        return None
    return decode(value) if isinstance(value, str) else value


def _marked(text: str) -> str:
    return _MARK + _ESCAPED.sub(_percent, text)


def _percent(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"
