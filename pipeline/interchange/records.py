"""Files as records: found again by their offset, bounded, told by line when they are bad.

A record is a line, or several where a format lets a quoted text hold line breaks. Where such a
record is too long, or turns out to be none, its lines are taken one by one: a quote that was
never closed costs the line it is in, not the rest of the file.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import msgspec

from tailrace.pipeline.errors import BackendError

from .drafts import Draft
from .opened import CHUNK_BYTES, open_file, path_size

RECORD_MAX_BYTES = 4 * 2**20
"""A longer record is refused; the longest event that the default settings let through, in JSON."""
SLICE_MAX_BYTES = 4 * 2**20
SLICE_MAX_RECORDS = 10_000

_SAMPLE_BYTES = 2**20
_BOM = b"\xef\xbb\xbf"


class Format(Protocol):
    """What is known of one kind of file."""

    def goes_on(self, line: bytes, is_open: bool) -> bool:
        """Return whether the record goes on after this line.

        Args:
            line: With its line break.
            is_open: Whether the line itself continues the one before.
        """

    def parse(self, record: bytes) -> Draft | None:
        """Return what a record says; ``None`` for one that says nothing (empty, a comment).

        Raises:
            BadRecord: it cannot be understood.
        """


class Record(NamedTuple):
    """One record, and where it is."""

    offset: int
    """Of its first byte, in the unpacked file."""
    line: int
    """Number of its first line, from 1."""
    data: bytes | None
    """``None`` if it is longer than ``RECORD_MAX_BYTES``."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a file that can be read by itself."""

    start: int
    """Offset of its first byte, in the unpacked file."""
    end: int
    """Offset of the first byte behind it."""
    line: int
    """Number of its first line, from 1."""
    records: int
    """How many it has, empty lines included."""
    digest: str
    """Of its bytes, so that a file that was changed is noticed."""


class FileIndex(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file before it is read."""

    size_bytes: int
    """As it lies there, packed or not."""
    records: int
    """How many there are, about: counted in the first megabyte."""
    is_exact: bool
    """Whether the first megabyte was all of it."""


def index_file(path: Path, format_: Format) -> FileIndex:
    """Return how much is in a file, from its first megabyte.

    Args:
        path: The file.
        format_: Tells where records end.

    Raises:
        BackendError: it cannot be read.
    """
    size_bytes = path_size(path)
    with open_file(path) as file:
        file.seek(0)
        sample = file.read(_SAMPLE_BYTES)
        is_all = not file.read(1)
        packed = getattr(file, "fileobj", None)
        sample_bytes = packed.tell() if packed is not None else len(sample)
    records, is_open = 0, False
    for line in io.BytesIO(sample):
        is_open = format_.goes_on(line, is_open)
        records += not is_open and not line.isspace()
    if not is_all:
        records = max(1, records * size_bytes // max(1, sample_bytes))
    return FileIndex(size_bytes=size_bytes, records=records, is_exact=is_all)


def digest_of(path: Path) -> str:
    """Return the digest of a file's unpacked content, 32 hexadecimal digits.

    Raises:
        BackendError: it cannot be read, or is cut short.
    """
    hasher = hashlib.blake2b(digest_size=16)
    with open_file(path) as file:
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def slices_of(path: Path, format_: Format, skip: int = 0, line: int = 1) -> Iterator[Slice]:
    """Yield a file's slices; the same for the same content.

    Args:
        path: The file.
        format_: Tells where records end.
        skip: Offset at which the first record begins: behind a header.
        line: The number of its line.

    Raises:
        BackendError: the file cannot be read, or is cut short.
    """
    with open_file(path) as file:
        file.seek(skip)
        lines = _Lines(file, skip, line)
        start, first_line, records = skip, line, 0
        for group in _groups(lines, format_):
            records += len(group)
            if records >= SLICE_MAX_RECORDS or lines.offset - start >= SLICE_MAX_BYTES:
                yield _slice(lines, start, first_line, records)
                start, first_line, records = lines.offset, lines.line, 0
        if records:
            yield _slice(lines, start, first_line, records)


def read_slice(path: Path, format_: Format, slice_: Slice) -> Iterator[Record]:
    """Yield a slice's records.

    Args:
        path: The file.
        format_: Tells where records end.
        slice_: As :func:`slices_of` gave it.

    Raises:
        BackendError: the file was changed since; at the end of the slice at the latest.
    """
    with open_file(path) as file:
        file.seek(slice_.start)
        lines = _Lines(file, slice_.start, slice_.line, slice_.end)
        for group in _groups(lines, format_):
            yield from group
    if lines.take_digest() != slice_.digest:
        raise BackendError(
            f"{path} was changed since the backfill was planned (bytes {slice_.start} to "
            f"{slice_.end}); start a new backfill. What was imported already stays, and is known"
        )


class _Lines:
    """Reads lines, bounded, and keeps count of where it is."""

    def __init__(self, file: BinaryIO, offset: int, line: int, end: int | None = None) -> None:
        self.offset, self.line = offset, line
        self._file, self._end = file, end
        self._hasher = hashlib.blake2b(digest_size=8)

    def take(self) -> tuple[bytes, bool] | None:
        """Return the next line, at most ``RECORD_MAX_BYTES`` of it, and whether that is all."""
        data = self._part()
        if not data:
            return None
        is_whole = data.endswith(b"\n") or len(data) <= RECORD_MAX_BYTES
        part = data
        while part and not part.endswith(b"\n") and not is_whole:
            part = self._part()
        self.line += 1
        return data, is_whole

    def take_digest(self) -> str:
        """Return the digest of what was read since the last time."""
        digest, self._hasher = self._hasher.hexdigest(), hashlib.blake2b(digest_size=8)
        return digest

    def _part(self) -> bytes:
        room = RECORD_MAX_BYTES + 1
        if self._end is not None:
            room = min(room, self._end - self.offset)
        part = self._file.readline(room) if room > 0 else b""
        self._hasher.update(part)
        self.offset += len(part)
        return part


def _slice(lines: _Lines, start: int, first_line: int, records: int) -> Slice:
    digest = lines.take_digest()
    return Slice(start=start, end=lines.offset, line=first_line, records=records, digest=digest)


def _groups(lines: _Lines, format_: Format) -> Iterator[list[Record]]:
    """Yield a record, or all the lines of one that is too long."""
    pending: list[Record] = []
    pending_bytes, is_open = 0, False
    while True:
        offset, number = lines.offset, lines.line
        taken = lines.take()
        if taken is None:
            break
        raw, is_whole = taken
        if not is_whole:
            yield [*pending, Record(offset, number, None)]
            pending, pending_bytes, is_open = [], 0, False
            continue
        is_open = format_.goes_on(raw, is_open)
        pending.append(Record(offset, number, raw.removeprefix(_BOM) if offset == 0 else raw))
        pending_bytes += len(raw)
        if is_open and pending_bytes <= RECORD_MAX_BYTES:
            continue
        yield pending if is_open else [_joined(pending)]
        pending, pending_bytes, is_open = [], 0, False
    if pending:
        yield pending


def _joined(pending: list[Record]) -> Record:
    first = pending[0]
    if len(pending) == 1:
        return first
    return Record(first.offset, first.line, b"".join([part.data or b"" for part in pending]))
