"""Rows of a host's models as PostgreSQL takes them fastest: binary COPY.

Binary COPY converts nothing, so that each column's packer must fit its type exactly. A model
with a column whose type is not listed here is written by ``bulk_create``.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from django.db import connections, models
from django.db.models import NOT_PROVIDED
from django.utils import timezone
from psycopg import sql
from psycopg.types import datetime as pg_datetime
from psycopg.types import numeric as pg_numeric

from tailrace.pipeline.errors import BackendMisconfigured

from .model_tables import ModelTable, Row

Pack = Callable[[Any], bytes]

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ROWS_A_PIECE = 250
"""Small enough that the server has something to do while we pack the next piece."""

_pack_length = struct.Struct(">i").pack
_pack_short = struct.Struct(">ih").pack
_pack_integer = struct.Struct(">ii").pack
_pack_bigint = struct.Struct(">iq").pack
_pack_double = struct.Struct(">id").pack
_pack_boolean = struct.Struct(">i?").pack
_pack_jsonb_head = struct.Struct(">iB").pack
_JSONB_VERSION = 1


def _text(value: str) -> bytes:
    data = value.encode()
    return _pack_length(len(data)) + data


def _bytes(value: bytes) -> bytes:
    return _pack_length(len(value)) + value


def _uuid(value: UUID) -> bytes:
    return _pack_length(16) + value.bytes


def _moment(value: datetime) -> bytes:
    aware = value if value.tzinfo is not None else timezone.make_aware(value)
    return _pack_bigint(8, (aware - _EPOCH) // _MICROSECOND)


def _jsonb(value: Any) -> bytes:
    data = msgspec.json.encode(value)
    return _pack_jsonb_head(len(data) + 1, _JSONB_VERSION) + data


def _dumped(dumper: Any) -> Pack:
    """Pack by one of psycopg's own binary dumpers."""
    dump = dumper(None).dump

    def pack(value: Any) -> bytes:
        data = bytes(dump(value))
        return _pack_length(len(data)) + data

    return pack


_PACKERS: dict[str, Pack] = {
    "smallint": functools.partial(_pack_short, 2),
    "integer": functools.partial(_pack_integer, 4),
    "bigint": functools.partial(_pack_bigint, 8),
    "double precision": functools.partial(_pack_double, 8),
    "boolean": functools.partial(_pack_boolean, 1),
    "timestamp with time zone": _moment,
    "varchar": _text,
    "text": _text,
    "uuid": _uuid,
    "jsonb": _jsonb,
    "bytea": _bytes,
    "numeric": _dumped(pg_numeric.DecimalBinaryDumper),
    "date": _dumped(pg_datetime.DateBinaryDumper),
    "time": _dumped(pg_datetime.TimeBinaryDumper),
    "interval": _dumped(pg_datetime.TimedeltaBinaryDumper),
}


class ModelCopy:
    """Writes rows of one model."""

    def __init__(self, table: ModelTable, packers: Sequence[Pack]) -> None:
        meta = table.model._meta
        self._packers = list(packers)
        self._head = struct.pack(">h", len(self._packers))
        self._statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            sql.Identifier(meta.db_table),
            sql.SQL(", ").join(sql.Identifier(field.column) for field in table.fields),
        )
        self._label = table.label

    def write(self, connection: psycopg.Connection[Any], rows: Sequence[Row]) -> None:
        """Write rows by one COPY, inside the transaction that is open.

        Raises:
            psycopg.Error: the server refused; the transaction has failed.
            BackendMisconfigured: a column has another type than the model says.
        """
        try:
            with psycopg.Cursor(connection) as cursor, cursor.copy(self._statement) as copy:
                for piece in self._packed(rows):
                    copy.write(piece)
        except psycopg.errors.InvalidBinaryRepresentation as error:
            # Of a text, this means a bad encoding, and ours is never bad.
            raise BackendMisconfigured(
                f"a column of {self._label} has another type in the database than in the model: "
                f"{str(error).strip()}. Run: manage.py migrate"
            ) from error

    def _packed(self, rows: Sequence[Row]) -> Iterator[bytes]:
        yield _SIGNATURE
        for start in range(0, len(rows), _ROWS_A_PIECE):
            pieces: list[bytes] = []
            for row in rows[start : start + _ROWS_A_PIECE]:
                pieces.append(self._head)
                pieces += [
                    _NULL if value is None else pack(value)
                    for pack, value in zip(self._packers, row, strict=True)
                ]
            yield b"".join(pieces)
        yield _TRAILER


@functools.cache
def model_copy(table: ModelTable, using: str) -> ModelCopy | None:
    """Return what writes a model's rows; ``None`` where only ``bulk_create`` can."""
    packers = [_packer(field, using) for field in table.fields]
    known = [packer for packer in packers if packer is not None]
    return ModelCopy(table, known) if len(known) == len(packers) else None


def _packer(field: Any, using: str) -> Pack | None:
    """Return a field's packer, if its type is known and nothing is computed on its way."""
    if getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED:
        return None
    target = field
    while target.is_relation:
        target = target.target_field
    if type(target).__module__.partition(".")[0] != "django":
        return None  # a field of the host's own: only it knows what get_db_prep_save() does
    if isinstance(target, models.JSONField) and target.encoder is not None:
        return None
    # "varchar(20)" and "numeric(8, 2)", without what is in brackets
    kind = (field.db_type(connections[using]) or "").partition("(")[0].strip()
    return _PACKERS.get(kind)
