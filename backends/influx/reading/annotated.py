"""Annotated CSV, which is what a Flux query answers, read row by row as it arrives.

::

    #datatype,string,long,dateTime:RFC3339,long,string
    #group,false,false,false,false,true
    #default,_result,,,,
    ,result,table,_time,_value,route
    ,,0,2024-05-15T12:00:00.000001Z,7,api/items/

An answer has several such blocks where tables differ in their columns. Integers are read as
integers (a number of 64 bits never passes through a double), times as nanoseconds.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from tailrace.pipeline.errors import TransientBackendError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANNOTATIONS = ("#datatype", "#group", "#default")
_RESULT, _TABLE, _FIRST = 1, 2, 3
"""Places of the columns that are not the table's own."""


class Block:
    """The columns of the rows that follow."""

    def __init__(self, header: list[str], types: list[str], defaults: list[str]) -> None:
        """Take the annotations.

        Args:
            header: Names of the columns.
            types: ``#datatype``.
            defaults: ``#default``.
        """
        self.result = defaults[_RESULT] if len(defaults) > _RESULT else ""
        self.places = {name: at for at, name in enumerate(header) if at >= _FIRST}
        self.labels = {name: at for name, at in self.places.items() if not name.startswith("_")}
        """The columns that a point's tags may be."""
        self._readers = [_READERS.get(kind.partition(":")[0], _text) for kind in types]

    def reader(self, name: str) -> tuple[int, Callable[[str], Any]]:
        """Return where a column is, and what reads it.

        Raises:
            KeyError: the rows have no such column.
        """
        place = self.places[name]
        return place, self._readers[place]

    def value(self, cells: list[str], name: str) -> Any:
        """Return a row's value; ``None`` where there is no such column."""
        if name not in self.places:
            return None
        place, read = self.reader(name)
        return read(cells[place])


Row = tuple[Block, list[str]]


def rows(lines: Iterable[str]) -> Iterator[Row]:
    """Yield the rows of an answer, each with its block.

    Args:
        lines: The answer's lines with their ends, which may stand in quotes, too.

    Raises:
        TransientBackendError: the server stopped in the middle, and says why.
    """
    annotations: dict[str, list[str]] = {}
    block: Block | None = None
    for cells in csv.reader(lines):
        if not cells:
            block = None
        elif cells[0] in _ANNOTATIONS:
            annotations[cells[0]] = cells
            block = None
        elif block is None:
            if "error" in cells and "reference" in cells and "result" not in cells[:2]:
                block = _FAILED
                continue
            block = Block(cells, annotations["#datatype"], annotations["#default"])
        elif block is _FAILED:
            raise TransientBackendError(f"InfluxDB gave up: {' '.join(cells).strip()}")
        else:
            yield block, cells


def result_of(row: Row) -> str:
    """Return the name of the result that a row belongs to."""
    block, cells = row
    return cells[_RESULT] or block.result


def table_of(cells: list[str]) -> str:
    """Return what all rows of one series have in common, within a block."""
    return cells[_TABLE]


def read_time(value: str) -> int:
    """Return an RFC 3339 time as nanoseconds since 1970; its fraction has up to nine digits."""
    second = _second_of(value[:19])
    if value[19] != ".":
        return second
    fraction = value[20:-1]
    return second + int(fraction) * 10 ** (9 - len(fraction))


@lru_cache(maxsize=4_096)
def _second_of(value: str) -> int:
    since = datetime.fromisoformat(value).replace(tzinfo=UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000


def _text(value: str) -> str:
    # InfluxDB writes the end of a line in a text as CR LF, and leaves out a CR of the text's own.
    return value.replace("\r\n", "\n")


def _boolean(value: str) -> bool:
    return value == "true"


_READERS: dict[str, Callable[[str], Any]] = {
    "long": int,
    "unsignedLong": int,
    "double": float,
    "boolean": _boolean,
    "dateTime": read_time,
}
_FAILED = Block([], [], [])
