"""Rows of ``tailrace_event`` as PostgreSQL takes them fastest.

Binary COPY, packed by hand: half the work of psycopg's ``write_row`` for the same bytes
(docs/decisions/0003). The format: a signature, then for each row the number of columns and
for each column its length and its value in the type's binary form, then a trailer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
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
    measurements: dict[str, bytes] = {}
    yield _SIGNATURE
    for start in range(0, len(events), _ROWS_A_PIECE):
        yield b"".join(_rows(events[start : start + _ROWS_A_PIECE], measurements))
    yield _TRAILER


def _rows(events: Sequence[Event], measurements: dict[str, bytes]) -> list[bytes]:
    rows = []
    for event in events:
        measurement = measurements.get(event.measurement)
        if measurement is None:
            measurement = measurements[event.measurement] = _text(event.measurement)
        trace_id = event.trace_id.encode() if event.trace_id else b""
        tags = _to_json(event.tags)
        fields = _to_json(event.fields)
        rows.append(
            b"%b%b%b%b%b%b%b%b"
            % (
                _pack_head(
                    _COLUMNS,
                    _UUID_BYTES,
                    event.id,
                    _TIMESTAMP_BYTES,
                    event.time_ns // 1000 - _EPOCH_US,
                ),
                measurement,
                _pack_length(len(trace_id)),
                trace_id,
                _pack_jsonb_head(len(tags) + 1, _JSONB_VERSION),
                tags,
                _pack_jsonb_head(len(fields) + 1, _JSONB_VERSION),
                fields,
            )
        )
    return rows


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
