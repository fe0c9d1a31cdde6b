"""Rows of a host's models as PostgreSQL takes them fastest: binary COPY.

Binary COPY converts nothing, so that each column's packer must fit its type exactly. A model
with a column whose type is not listed here, or is another one in the database than in the
model, is written by ``bulk_create``.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from django.db import connections, models
from django.db.models import NOT_PROVIDED
from django.utils import timezone
from psycopg import sql
from psycopg.types import datetime as pg_datetime
from psycopg.types import numeric as pg_numeric

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


class Packer(NamedTuple):
    """How a column of a type is packed."""

    type: str
    """What PostgreSQL calls the type in ``pg_type``."""
    pack: Pack


_PACKERS = {
    "smallint": Packer("int2", functools.partial(_pack_short, 2)),
    "integer": Packer("int4", functools.partial(_pack_integer, 4)),
    "bigint": Packer("int8", functools.partial(_pack_bigint, 8)),
    "double precision": Packer("float8", functools.partial(_pack_double, 8)),
    "boolean": Packer("bool", functools.partial(_pack_boolean, 1)),
    "timestamp with time zone": Packer("timestamptz", _moment),
    "varchar": Packer("varchar", _text),
    "text": Packer("text", _text),
    "uuid": Packer("uuid", _uuid),
    "jsonb": Packer("jsonb", _jsonb),
    "bytea": Packer("bytea", _bytes),
    "numeric": Packer("numeric", _dumped(pg_numeric.DecimalBinaryDumper)),
    "date": Packer("date", _dumped(pg_datetime.DateBinaryDumper)),
    "time": Packer("time", _dumped(pg_datetime.TimeBinaryDumper)),
    "interval": Packer("interval", _dumped(pg_datetime.TimedeltaBinaryDumper)),
}
"""By what Django calls the type."""


class ModelCopy:
    """Writes rows of one model."""

    def __init__(self, table: ModelTable, packers: Sequence[Packer]) -> None:
        """Prepare; nothing is asked of the database yet."""
        self._packs = [packer.pack for packer in packers]
        self._types = [psycopg.adapters.types[packer.type].oid for packer in packers]
        self._head = struct.pack(">h", len(self._packs))
        name = sql.Identifier(table.model._meta.db_table)
        columns = sql.SQL(", ").join(sql.Identifier(field.column) for field in table.fields)
        self._copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(name, columns)
        self._look = sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns, name)

    def fits(self, connection: psycopg.Connection[Any]) -> bool:
        """Return whether the columns have the types that the model says, until the commit.

        Binary COPY takes the bytes of a double for a bigint without a word. Looking takes a
        lock that keeps the columns as they are.

        Raises:
            psycopg.Error: a column is not there.
        """
        with psycopg.Cursor(connection) as cursor:
            cursor.execute(self._look)
            return [column.type_code for column in cursor.description or ()] == self._types

    def write(self, connection: psycopg.Connection[Any], rows: Sequence[Row]) -> None:
        """Write rows by one COPY, inside the transaction that is open.

        Raises:
            psycopg.Error: the server refused; the transaction has failed.
        """
        with psycopg.Cursor(connection) as cursor, cursor.copy(self._copy) as copy:
            for piece in self._packed(rows):
                copy.write(piece)

    def _packed(self, rows: Sequence[Row]) -> Iterator[bytes]:
        yield _SIGNATURE
        for start in range(0, len(rows), _ROWS_A_PIECE):
            pieces: list[bytes] = []
            for row in rows[start : start + _ROWS_A_PIECE]:
                pieces.append(self._head)
                pieces += [
                    _NULL if value is None else pack(value)
                    for pack, value in zip(self._packs, row, strict=True)
                ]
            yield b"".join(pieces)
        yield _TRAILER


@functools.cache
def model_copy(table: ModelTable, using: str) -> ModelCopy | None:
    """Return what writes a model's rows; ``None`` where only ``bulk_create`` can."""
    packers = [_packer(field, using) for field in table.fields]
    known = [packer for packer in packers if packer is not None]
    return ModelCopy(table, known) if len(known) == len(packers) else None


def _packer(field: Any, using: str) -> Packer | None:
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
