"""Newline-delimited JSON: what Tailrace exports, and what others write.

Our own form, one event a line; what was exported is imported as the same event::

    {"id": "0190...", "measurement": "request", "time": "2026-01-31T08:00:00.123456Z",
     "tags": {"status": "200"}, "fields": {"duration_ms": 12.5}, "trace_id": "4bf9..."}

Any other objects are read flat, by :class:`~.columns.Columns`: nested ones with dots
(``user.id``), lists as JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from tailrace.pipeline.event import INT_MAX, INT_MIN, Event

from .columns import Columns, uid_of
from .drafts import BadRecord, Draft
from .times import TimeReader, iso_from_ns

_DEPTH_MAX = 8
_KEYS_MAX = 1_000
_BLANK = b" \t\r\n"
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

# No lists, no mappings: they are refused before any memory is taken for them.
_Scalar = bool | int | float | str | None


class _Line(msgspec.Struct, gc=False):
    measurement: str
    time: str
    tags: dict[str, _Scalar] = {}
    fields: dict[str, _Scalar] = {}
    trace_id: str | None = None
    id: str | None = None


_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_iso = TimeReader("iso")


def encode_event(event: Event) -> bytes:
    """Return an event as a line, its line break included.

    Raises:
        ValueError: a field is NaN or infinite, which JSON does not have.
    """
    line = {
        "id": str(UUID(bytes=event.id)) if event.id else None,
        "measurement": event.measurement,
        "time": iso_from_ns(event.time_ns),
        "tags": event.tags,
        "fields": json_fields(event.fields),
        "trace_id": event.trace_id,
    }
    return _encode(line) + b"\n"


def json_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return fields as JSON can hold them, so that they are the same events when they come back.

    PostgreSQL's jsonb gives the float 1e22 back as an integer, which no event can have.

    Raises:
        ValueError: a field is NaN or infinite, which JSON does not have.
    """
    large = {}
    for name, value in fields.items():
        if type(value) is float and value - value != 0.0:
            raise ValueError(f"field {name!r} is {value}, which JSON does not have")
        if type(value) is int and not INT_MIN <= value <= INT_MAX:
            large[name] = float(value)
    return {**fields, **large} if large else fields


class _Lines:
    """Every record is one line."""

    def goes_on(self, line: bytes, is_open: bool) -> bool:
        """Return whether the record goes on: never."""
        return False


class NdjsonFormat(_Lines):
    """Our own form."""

    def parse(self, record: bytes) -> Draft | None:
        """Return what a line says; nothing for an empty one.

        Raises:
            BadRecord: it is not our form.
        """
        if not record.strip(_BLANK):
            return None
        try:
            line = _decode_line(record)
        except _UNREADABLE as error:
            raise BadRecord(f"not an event in JSON: {error}") from error
        tags = {key: value for key, value in line.tags.items() if value is not None}
        return Draft(
            line.measurement, _iso.read(line.time), tags, line.fields, line.trace_id,
            uid_of(line.id),
        )  # fmt: skip


class FlatNdjsonFormat(_Lines):
    """Anybody's objects."""

    def __init__(self, columns: Columns, times: TimeReader) -> None:
        """Say what is what.

        Args:
            columns: By the keys of the objects, nested ones with dots.
            times: Reads the time.
        """
        self._columns = columns
        self._times = times

    def parse(self, record: bytes) -> Draft | None:
        """Return what a line says; nothing for an empty one.

        Raises:
            BadRecord: it is no object, too deep, has too many keys, or lacks what it must have.
        """
        if not record.strip(_BLANK):
            return None
        try:
            row: dict[str, Any] = {}
            _flatten(_decode_object(record), "", row, _DEPTH_MAX)
        except BadRecord:
            raise
        except _UNREADABLE as error:
            raise BadRecord(f"not an object in JSON: {error}") from error
        return self._columns.draft(row, self._times)


def _flatten(source: Mapping[str, Any], prefix: str, row: dict[str, Any], depth: int) -> None:
    if depth == 0:
        raise BadRecord(f"nested deeper than {_DEPTH_MAX} levels")
    for key, value in source.items():
        name = prefix + key
        if isinstance(value, dict):
            _flatten(value, f"{name}.", row, depth - 1)
        else:
            row[name] = _encode(value).decode() if isinstance(value, list) else value
        if len(row) > _KEYS_MAX:
            raise BadRecord(f"more than {_KEYS_MAX} keys")
