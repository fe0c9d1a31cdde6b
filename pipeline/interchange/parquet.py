"""Parquet, the one module that needs pyarrow: ``pip install 'django-tailrace[parquet]'``.

The schema, version 1: ``id`` (text, a UUID), ``measurement`` (text, dictionary), ``time``
(timestamp in microseconds, UTC), ``tags`` (map of text to text), ``fields`` (JSON text: the only
column that keeps integers, floats, booleans and text of one name apart), ``trace_id`` (text or
null). Nanoseconds below a microsecond are cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import msgspec
import pyarrow
import pyarrow.parquet

from tailrace.pipeline.event import Event, ns_from_datetime

from .drafts import BadRecord
from .ndjson import json_fields

ROW_GROUP_EVENTS = 4_096
"""Held in memory until they are written."""
SCHEMA_VERSION = b"1"

SCHEMA = pyarrow.schema(
    [
        pyarrow.field("id", pyarrow.string()),
        pyarrow.field("measurement", pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), False),
        pyarrow.field("time", pyarrow.timestamp("us", tz="UTC"), False),
        pyarrow.field("tags", pyarrow.map_(pyarrow.string(), pyarrow.string()), False),
        pyarrow.field("fields", pyarrow.string(), False),
        pyarrow.field("trace_id", pyarrow.string()),
    ],
    metadata={b"tailrace.schema": SCHEMA_VERSION},
)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class ParquetShard:
    """One Parquet file, compressed by zstd."""

    suffix = ".parquet"
    bytes_per_event = 60

    def write(self, file: IO[bytes], pieces: Iterable[Sequence[Event]]) -> None:
        """Write all pieces, a row group at a time.

        Raises:
            ValueError: a field is NaN or infinite.
        """
        with pyarrow.parquet.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
            waiting: list[Event] = []
            for piece in pieces:
                waiting.extend(piece)
                while len(waiting) >= ROW_GROUP_EVENTS:
                    writer.write_table(_table(waiting[:ROW_GROUP_EVENTS]))
                    del waiting[:ROW_GROUP_EVENTS]
            if waiting:
                writer.write_table(_table(waiting))

    def read(self, path: Path) -> Iterator[Sequence[Event]]:
        """Yield what was written, a row group at a time.

        Raises:
            BadRecord: it is no file of ours.
        """
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    yield [_event(row) for row in file.read_row_group(number).to_pylist()]
        except pyarrow.ArrowException as error:
            raise BadRecord(f"not a Parquet file of ours: {error}") from error


def _table(events: Sequence[Event]) -> Any:
    columns = {
        "id": [str(UUID(bytes=event.id)) if event.id else None for event in events],
        "measurement": [event.measurement for event in events],
        "time": [event.time_ns // 1000 for event in events],
        "tags": [list(event.tags.items()) for event in events],
        "fields": [_encode(json_fields(event.fields)).decode() for event in events],
        "trace_id": [event.trace_id for event in events],
    }
    return pyarrow.Table.from_pydict(columns, schema=SCHEMA)


def _event(row: dict[str, Any]) -> Event:
    return Event(
        row["measurement"],
        ns_from_datetime(row["time"]),
        dict(row["tags"]),
        _decode(row["fields"]),
        row["trace_id"],
        id=UUID(row["id"]).bytes if row["id"] else b"",
    )
