"""Values of events as HTML. All of it was sent by somebody: everything is escaped here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

NOTHING = "–"
_TAGS_SHOWN = 6
_FIELDS_SHOWN = 4
_VALUE_CHARS = 60
_FIRST_FIELDS = ("duration_ms", "status", "path", "sql", "type", "message", "error", "amount")
_HEX_BYTES = 256
_HEX_LINE_BYTES = 16


def short(value: object, chars: int = _VALUE_CHARS) -> str:
    """Return a value on one line of bounded length."""
    text = f"{value:.6g}" if isinstance(value, float) else _text(value)
    line = " ".join(text[: chars * 4].split())
    return line if len(line) <= chars and len(text) <= chars * 4 else line[: chars - 1] + "…"


def moment(value: datetime | None) -> str:
    """Return a time to the millisecond, in the zone of the person who reads it."""
    if value is None:
        return NOTHING
    local = timezone.localtime(value)
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03}"


def size(number: int) -> str:
    """Return a number of bytes for people."""
    if number < 1024:
        return f"{number} B"
    if number < 1024**2:
        return f"{formats.localize(round(number / 1024, 1))} KiB"
    return f"{formats.localize(round(number / 1024**2, 1))} MiB"


def tags(values: Mapping[str, Any]) -> SafeString | str:
    """Return tags as a row of labels."""
    return _labels(sorted(values.items())[:_TAGS_SHOWN], len(values) - _TAGS_SHOWN, "tag")


def fields(values: Mapping[str, Any]) -> SafeString | str:
    """Return the fields that say most."""
    names = [name for name in _FIRST_FIELDS if name in values]
    names += [name for name in values if name not in _FIRST_FIELDS]
    shown = [(name, values[name]) for name in names[:_FIELDS_SHOWN]]
    return _labels(shown, len(values) - _FIELDS_SHOWN, "field")


def pairs(values: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Return names, values as text, and whether a value is long: for a page of details."""
    texts = [(name, _text(value, indent=2)) for name, value in sorted(values.items())]
    return [(name, text, len(text) > _VALUE_CHARS or "\n" in text) for name, text in texts]


def hexdump(data: bytes) -> str:
    """Return the beginning of some bytes, as hexadecimal and as text."""
    lines = []
    for start in range(0, min(len(data), _HEX_BYTES), _HEX_LINE_BYTES):
        part = data[start : start + _HEX_LINE_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:04x}  {part.hex(' '):<47}  {text}")
    return "\n".join(lines)


def _text(value: object, indent: int | None = None) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=indent)


def _labels(items: Iterable[tuple[str, Any]], more: int, kind: str) -> SafeString | str:
    labels = format_html_join(
        " ",
        '<span class="tailrace-{}" title="{}"><b>{}</b> {}</span>',
        ((kind, _text(value)[:500], short(name, 40), short(value)) for name, value in items),
    )
    if more > 0:
        return format_html('{} <span class="tailrace-more">+{}</span>', labels, more)
    return labels or NOTHING
