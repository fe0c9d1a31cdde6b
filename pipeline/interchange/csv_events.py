"""CSV with a header, by RFC 4180: quoted texts may hold commas, quotes and line breaks."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from tailrace.pipeline.errors import BackendError

from .columns import Columns
from .drafts import BadRecord, Draft
from .opened import open_file
from .records import RECORD_MAX_BYTES
from .times import TimeReader

Encoding = Literal["utf-8", "latin-1", "cp1252"]
ENCODINGS: tuple[str, ...] = get_args(Encoding)
_QUOTE = b'"'
_BOM = b"\xef\xbb\xbf"


class Dialect(NamedTuple):
    """How a CSV file is written."""

    delimiter: str = ","
    """One ASCII character."""
    encoding: Encoding = "utf-8"
    header: tuple[str, ...] = ()
    """The names of the columns of a file that does not begin with them."""


class Header(NamedTuple):
    """The names of columns, and where the rows begin."""

    names: tuple[str, ...]
    offset: int
    line: int


class CsvFormat:
    """The rows of one file."""

    def __init__(
        self, dialect: Dialect, names: tuple[str, ...], columns: Columns, times: TimeReader
    ) -> None:
        """Say how the file is written, and what its columns mean.

        Args:
            dialect: How it is written.
            names: Its columns; one without a name is passed over.
            columns: What they mean.
            times: Reads the time.
        """
        self._dialect = dialect
        self._delimiter = dialect.delimiter.encode("ascii")
        self._names = names
        self._columns = columns
        self._times = times

    def goes_on(self, line: bytes, is_open: bool) -> bool:
        """Return whether a quoted text is open at the end of the line."""
        return ends_in_quotes(line, is_open, self._delimiter)

    def parse(self, record: bytes) -> Draft | None:
        """Return what a row says; nothing for an empty one.

        Raises:
            BadRecord: it has another number of columns than the header, is not written by the
                rules, or lacks a time.
        """
        if not record.strip(b" \t\r\n"):
            return None
        cells = _cells(record, self._dialect)
        if len(cells) != len(self._names):
            raise BadRecord(f"has {len(cells)} columns, and the header has {len(self._names)}")
        row = {name: cell for name, cell in zip(self._names, cells, strict=True) if name}
        return self._columns.draft(row, self._times)


def read_header(path: Path, dialect: Dialect) -> Header:
    """Return the columns of a file.

    Args:
        path: The file.
        dialect: How it is written; its ``header``, if there is one, is taken.

    Raises:
        BackendError: the file is empty, or its first row does not name columns.
    """
    if dialect.header:
        return Header(_checked(dialect.header, path), 0, 1)
    data, lines, is_open = b"", 0, False
    with open_file(path) as file:
        file.seek(0)
        while not data or is_open:
            line = file.readline(RECORD_MAX_BYTES)
            if not line or len(data) + len(line) > RECORD_MAX_BYTES:
                raise BackendError(f"{path} does not begin with the names of columns")
            start = line.removeprefix(_BOM) if not data else line
            is_open = ends_in_quotes(start, is_open, dialect.delimiter.encode("ascii"))
            data, lines = data + line, lines + 1
    try:
        names = tuple(cell.strip() for cell in _cells(data.removeprefix(_BOM), dialect))
    except BadRecord as error:
        raise BackendError(f"the header of {path} cannot be read: {error}") from error
    return Header(_checked(names, path), len(data), lines + 1)


def ends_in_quotes(line: bytes, is_open: bool, delimiter: bytes) -> bool:
    """Return whether a line ends within a quoted text.

    A quote opens a text at the beginning of a cell only; within it, two stand for one.

    Args:
        line: The line.
        is_open: Whether it begins within one.
        delimiter: What separates cells.
    """
    if _QUOTE not in line:
        return is_open
    position = 0
    while True:
        if is_open:
            closing = line.find(_QUOTE, position)
            if closing < 0:
                return True
            position = closing + 1
            if line[position : position + 1] == _QUOTE:
                position += 1
                continue
            is_open = False
        elif line[position : position + 1] == _QUOTE:
            is_open = True
            position += 1
            continue
        position = line.find(delimiter, position) + 1
        if position == 0:
            return False


def _cells(record: bytes, dialect: Dialect) -> list[str]:
    try:
        text = record.decode(dialect.encoding)
    except UnicodeDecodeError as error:
        raise BadRecord(f"not in {dialect.encoding}: {error.reason}") from error
    # Line breaks within quotes stay as they are; the one behind the row goes.
    text = text.removesuffix("\n").removesuffix("\r")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter,
                               strict=True))  # fmt: skip
    except csv.Error as error:
        raise BadRecord(f"not a row of CSV: {error}") from error
    if len(rows) != 1:
        raise BadRecord(f"not a row of CSV: {len(rows)} rows in one")
    return rows[0]


def _checked(names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    named = [name for name in names if name]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise BackendError(f"{path} has columns of the same name: {twice}")
    if not named:
        raise BackendError(f"{path} does not begin with the names of columns")
    return names
