"""Exports: one file a step, whole or not there.

A step writes beside its file and renames when all of it is on disk, so that what has the name
is complete; a step that is done again replaces its file by an equal one. Then the file is read
back, and what was read is the checksum of the target.
"""

from __future__ import annotations

import errno
import gzip
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

import msgspec

from tailrace.pipeline.backfill.contracts import (
    BackfillRefused,
    Estimate,
    Marker,
    Slice,
    StepContext,
    StepResult,
)
from tailrace.pipeline.backfill.digest import Digest
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import Event

from .drafts import BadRecord
from .ndjson import NdjsonFormat, encode_event

_ROOM_FACTOR = 1.2
"""How much more than the estimate must be free."""


class ShardFormat(Protocol):
    """How the events of one file are written, and read back."""

    suffix: str
    """``.ndjson``"""
    bytes_per_event: int
    """About, for estimates."""

    def write(self, file: IO[bytes], pieces: Iterable[Sequence[Event]]) -> None:
        """Write all pieces, one after the other in memory.

        Raises:
            ValueError: an event cannot be written.
        """

    def read(self, path: Path) -> Iterator[Sequence[Event]]:
        """Yield what was written."""


class NdjsonShard:
    """Newline-delimited JSON, packed by gzip or not."""

    bytes_per_event = 400

    def __init__(self, is_packed: bool = False) -> None:
        """Say whether to pack."""
        self._is_packed = is_packed
        self.suffix = ".ndjson.gz" if is_packed else ".ndjson"
        if is_packed:
            self.bytes_per_event = 80

    def write(self, file: IO[bytes], pieces: Iterable[Sequence[Event]]) -> None:
        """Write all pieces."""
        if not self._is_packed:
            self._write(file, pieces)
            return
        # No name and no time in it: equal content makes equal files.
        with gzip.GzipFile(
            filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6
        ) as packed:
            self._write(cast(IO[bytes], packed), pieces)

    def read(self, path: Path) -> Iterator[Sequence[Event]]:
        """Yield what was written."""
        form = NdjsonFormat()
        with open(path, "rb") as file, gzip.open(file) if self._is_packed else file as lines:
            for line in lines:
                draft = form.parse(line)
                assert draft is not None, "we write no empty lines"
                yield [
                    Event(
                        draft.measurement,
                        draft.time_ns,
                        dict(draft.tags),
                        dict(draft.fields),
                        draft.trace_id,
                        id=draft.uid or b"",
                    )
                ]

    @staticmethod
    def _write(file: IO[bytes], pieces: Iterable[Sequence[Event]]) -> None:
        for piece in pieces:
            file.write(b"".join(map(encode_event, piece)))


class ShardSink:
    """A sink of the engine that writes files into a folder."""

    def __init__(self, folder: Path, format_: ShardFormat) -> None:
        """Take the folder.

        Args:
            folder: Where the files go; all workers must see the same one.
            format_: How they are written.
        """
        self._folder = folder
        self._format = format_

    def check(self, estimate: Estimate) -> None:
        """Look whether the folder can be written and has room.

        Raises:
            BackfillRefused: it cannot, or has not.
        """
        if not self._folder.is_dir():
            raise BackfillRefused(f"{self._folder} is not a folder; create it, for the worker")
        try:
            with _whole_file(self._folder / ".tailrace-check") as file:
                file.write(b"ok")
            (self._folder / ".tailrace-check").unlink(missing_ok=True)
            free_bytes = shutil.disk_usage(self._folder).free
        except (OSError, BackendError) as error:
            raise BackfillRefused(f"{self._folder} cannot be written: {error}") from error
        needed_bytes = int(self.estimate(estimate).bytes * _ROOM_FACTOR)
        if free_bytes < needed_bytes:
            raise BackfillRefused(
                f"{self._folder} has {free_bytes / 1e6:,.0f} MB free, and about "
                f"{needed_bytes / 1e6:,.0f} MB are needed; choose another folder or make room"
            )

    def estimate(self, estimate: Estimate) -> Estimate:
        """Return the estimate with what the files will take, about."""
        return msgspec.structs.replace(estimate, bytes=estimate.rows * self._format.bytes_per_event)

    def write(
        self, context: StepContext, slice_: Slice, pieces: Iterable[Sequence[Event]]
    ) -> StepResult:
        """Write the file of a step, and read it back.

        Raises:
            BackendError: it cannot be written; nothing is there then, or what was before.
        """
        source = Digest()
        path = self.path_of(context.marker)
        for leftover in self._folder.glob(f"{path.name}.*.part"):
            leftover.unlink(missing_ok=True)  # of an attempt that was killed

        def watched() -> Iterator[Sequence[Event]]:
            for piece in pieces:
                context.alive()
                source.add(piece)
                yield piece

        try:
            with _whole_file(path) as file:
                self._format.write(file, watched())
            target = self._digest(path)
        except ValueError as error:
            raise BackendError(f"an event cannot be written to {path}: {error}") from error
        size_bytes = path.stat().st_size
        return StepResult(
            rows_read=source.rows,
            rows_written=target.rows,
            bytes=size_bytes,
            source_digest=str(source),
            target_digest=str(target),
            detail={"file": path.name, "bytes": size_bytes},
        )

    def path_of(self, marker: Marker) -> Path:
        """Return where a step's events go."""
        name = f"tailrace-{marker.backfill[:12]}-{marker.number:06d}{self._format.suffix}"
        return self._folder / name

    def _digest(self, path: Path) -> Digest:
        digest = Digest()
        try:
            for piece in self._format.read(path):
                digest.add(piece)
        except (OSError, EOFError, BadRecord) as error:
            raise BackendError(f"{path} cannot be read back: {error}") from error
        return digest


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name when it is complete and on disk."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        what = "there is no room left" if error.errno == errno.ENOSPC else error.strerror or error
        raise BackendError(f"cannot write {path}: {what}") from error
    finally:
        part.unlink(missing_ok=True)
