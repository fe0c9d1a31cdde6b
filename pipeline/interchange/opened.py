"""Opens files for reading, packed or not, and keeps a packed one open for the next slice."""

from __future__ import annotations

import gzip
import os
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from tailrace.pipeline.errors import BackendError

CHUNK_BYTES = 2**20
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error)


def path_size(path: Path) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        BackendError: there is none, or it is a folder, a pipe, a device.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise BackendError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise BackendError(f"{path} is not a file")
    return status.st_size


class _OpenFile(NamedTuple):
    key: tuple[str, int, int, int]
    packed: BinaryIO
    unpacked: gzip.GzipFile


_kept_lock = threading.Lock()
_kept: list[_OpenFile] = []
"""The packed file that this process read last. A packed file can be read from its beginning
only, so that each slice would unpack all that is before it; the next slice goes on here."""


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacking it on the way if it is packed by gzip.

    Raises:
        BackendError: it cannot be read, is no file, or is cut short or corrupt.
    """
    path_size(path)
    try:
        with open(path, "rb", buffering=CHUNK_BYTES) as file:
            if file.read(2) != _GZIP_MAGIC:
                file.seek(0)
                yield file
                return
        with _open_packed(path) as file:
            yield file
    except _GZIP_ERRORS as error:
        raise BackendError(f"{path} is not a whole gzip file: {error}") from error
    except OSError as error:
        raise BackendError(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def _open_packed(path: Path) -> Iterator[BinaryIO]:
    status = os.stat(path)
    key = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
    with _kept_lock:
        taken = _kept.pop() if _kept else None
    if taken is not None and taken.key != key:
        _close(taken)
        taken = None
    if taken is None:
        packed = open(path, "rb", buffering=CHUNK_BYTES)  # noqa: SIM115 - kept for the next slice
        taken = _OpenFile(key, packed, gzip.GzipFile(fileobj=packed))
    is_whole = False
    try:
        yield cast(BinaryIO, taken.unpacked)
        is_whole = True
    finally:
        with _kept_lock:
            if is_whole and not _kept:
                _kept.append(taken)
                taken = None
        if taken is not None:
            _close(taken)


def _close(file: _OpenFile) -> None:
    file.unpacked.close()
    file.packed.close()


def close_kept_files() -> None:
    """Close the packed file that is kept open for the next slice."""
    with _kept_lock:
        while _kept:
            _close(_kept.pop())
