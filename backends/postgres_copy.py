"""Rows of ``tailrace_event`` as PostgreSQL takes them fastest.

Binary COPY, packed by hand: half the work of psycopg's ``write_row`` for the same bytes
(docs/decisions/0003). The format: a signature, then for each row the number of columns and
for each column its length and its value in the type's binary form, then a trailer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec
import psycopg

from tailrace.pipeline.event import Event

from .statements import statement

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)

_COLUMNS = 6  # of sql/copy_events.sql
_UUID_BYTES = 16
_TIMESTAMP_BYTES = 8
_JSONB_VERSION = 1
_EPOCH_US = 946_684_800 * 10**6
"""PostgreSQL counts microseconds from 2000."""

# Columns of a fixed length come first, so that one call packs all of them.
_pack_head = struct.Struct(">hi16siq").pack
_pack_length = struct.Struct(">i").pack
_pack_jsonb_head = struct.Struct(">iB").pack
_to_json = msgspec.json.Encoder().encode

_ROWS_A_PIECE = 250
"""Small enough that the server has something to do while we pack the next piece."""


def copy_events(connection: psycopg.Connection[Any], events: Sequence[Event]) -> None:
    """Write rows by one COPY, inside the transaction that is open.

    Raises:
        psycopg.Error: the server refused; the transaction has failed.
        TypeError, ValueError, OverflowError, struct.error: a value has no binary form.
    """
    with psycopg.Cursor(connection) as cursor, cursor.copy(statement("copy_events")) as copy:
        for piece in packed(events):
            copy.write(piece)


def packed(events: Sequence[Event]) -> Iterator[bytes]:
    """Yield the binary COPY of events, in pieces."""
    measurements = _Made(_text)
    yield _SIGNATURE
    for start in range(0, len(events), _ROWS_A_PIECE):
        yield _rows(events[start : start + _ROWS_A_PIECE], measurements)
    yield _TRAILER


class _Made(dict[Any, bytes]):
    """Bytes that come again and again, made once each."""

    def __init__(self, make: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Any) -> bytes:
        made = self[key] = self._make(key)
        return made


def _rows(events: Sequence[Event], measurements: _Made) -> bytes:
    # By column, for the loops that are in C then: half of what a loop over rows costs.
    heads = [
        _pack_head(
            _COLUMNS, _UUID_BYTES, event.id, _TIMESTAMP_BYTES, event.time_ns // 1000 - _EPOCH_US
        )
        for event in events
    ]
    names = [measurements[event.measurement] for event in events]
    traces = [(event.trace_id or "").encode() for event in events]
    tags = [_to_json(event.tags) for event in events]
    fields = [_to_json(event.fields) for event in events]
    text, jsonb = _Made(_pack_length), _Made(_jsonb_head)
    columns = (
        heads,
        names,
        *(_lengths(text, traces), traces),
        *(_lengths(jsonb, tags), tags),
        *(_lengths(jsonb, fields), fields),
    )
    return b"".join(chain.from_iterable(zip(*columns, strict=True)))


def _lengths(heads: _Made, values: Sequence[bytes]) -> list[bytes]:
    """Return what stands before each value: its length."""
    return [heads[len(value)] for value in values]


def _jsonb_head(length: int) -> bytes:
    return _pack_jsonb_head(length + 1, _JSONB_VERSION)


def _text(value: str) -> bytes:
    data = value.encode()
    return _pack_length(len(data)) + data


def insert_events(connection: psycopg.Connection[Any], events: Sequence[Event]) -> None:
    """Write rows by one INSERT, where the server cannot COPY.

    Raises:
        psycopg.Error: the server refused; the transaction has failed.
        TypeError, ValueError, OverflowError: a value has no JSON form.
    """
    columns = (
        [event.uuid for event in events],
        [event.time for event in events],
        [event.measurement for event in events],
        [event.trace_id or "" for event in events],
        [_to_json(event.tags).decode() for event in events],
        [_to_json(event.fields).decode() for event in events],
    )
    with psycopg.Cursor(connection) as cursor:
        cursor.execute(statement("insert_events"), columns)
