"""What stands before the values of a line: measurement, tags and the names of fields."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Protocol

from tailrace.pipeline.event import Event

from .layout import encode_name, encode_value, typed_key

KEY_MAX_BYTES = 60_000
"""InfluxDB allows 65,535 for measurement, tags and the name of a field together."""
_ESCAPE_MEASUREMENT = re.compile(r"([, ])")
_ESCAPE_KEY = re.compile(r"([,= ])")


class Unencodable(ValueError):
    """The event has no line; the text says why."""


def escape_measurement(name: str) -> str:
    """Return an encoded measurement as it stands in a line."""
    return _ESCAPE_MEASUREMENT.sub(r"\\\1", name)


def escape_key(name: str) -> str:
    """Return an encoded tag key, tag value or field key as it stands in a line."""
    return _ESCAPE_KEY.sub(r"\\\1", name)


def series_text(measurement: str, tags: Mapping[str, str]) -> str:
    """Return a line up to its fields: measurement and tags, which are sorted by key.

    Raises:
        Unencodable: a name or value cannot be written; says why.
    """
    pairs = sorted((encode_name(key), encode_value(value)) for key, value in tags.items())
    text = ",".join(
        [
            escape_measurement(encode_name(measurement)),
            *(f"{escape_key(key)}={escape_key(value)}" for key, value in pairs),
        ]
    )
    if len(text) > KEY_MAX_BYTES or len(utf8(text)) > KEY_MAX_BYTES:
        raise Unencodable(
            f"its measurement and tags have more than {KEY_MAX_BYTES} bytes; InfluxDB takes no "
            "longer ones: put long text into a field"
        )
    return text


Field = tuple[str, str, str]
"""Measurement, name and kind (``int``, ``float``, ``str``, ``bool``, ``none``) of a field."""


class Names(Protocol):
    """Says what tags and fields are called in InfluxDB."""

    def learn(self, fields: Collection[Field], series: Collection[Event]) -> None:
        """Get to know fields, and the tags of some events, before they are asked for."""

    def key(self, field: Field) -> str:
        """Return a field's key, not escaped yet."""

    def tags(self, event: Event) -> Mapping[str, str]:
        """Return the tags that an event is stored with, not encoded yet."""


class OwnNames:
    """Everything is called what it is called; for events that each keep to one type."""

    def learn(self, fields: Collection[Field], series: Collection[Event]) -> None:
        """Nothing to learn."""

    def key(self, field: Field) -> str:
        _, name, kind = field
        return typed_key(name, kind) if kind == "none" else encode_name(name)

    def tags(self, event: Event) -> Mapping[str, str]:
        return event.tags


def utf8(text: str) -> bytes:
    """Return text as it is sent.

    Raises:
        Unencodable: it has a lone surrogate.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Unencodable(f"it has text that is no Unicode: {error}") from error
