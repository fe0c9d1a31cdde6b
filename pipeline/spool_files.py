"""The spool's files: a private folder, locks that tell the living from the dead, and records.

The folder may lie in a world-writable place such as ``/tmp``. It is therefore opened once,
checked, and used through its descriptor: whatever its name points to later, our files go where
we looked. Of what lies in it, only regular files of this very user count.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from .errors import SpoolUnavailable

_SEGMENT_NAME = re.compile(r"^[0-9a-f]{16}-([0-9a-f]{16})\.v1\.frames$")
_LOCK_NAME = re.compile(r"^([0-9a-f]{16})\.lock$")
_OWNER_BYTES = 8
_CORRUPT = ".corrupt"
_CORRUPT_MAX_FILES = 4
_LOCK_ATTEMPTS = 8
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW
_RECORD = Struct(">4sIIH")
RECORD_HEAD_BYTES = _RECORD.size
_REMEDY = (
    "Make room there and let this user write, or set TAILRACE['SPOOL_DIR'] to another folder; "
    "Tailrace makes it, so it need not exist."
)


class Record(NamedTuple):
    """A frame within a segment, and the bytes that it takes there."""

    shard: int
    frame: bytes
    start: int
    end: int


@dataclass(eq=False, slots=True)
class Segment:
    """A file of records."""

    name: str
    owner: str
    size: int = 0
    """Bytes of whole records; what the file has beyond is the rest of a failed write."""
    sent: int = 0
    is_corrupt: bool = False

    @classmethod
    def new(cls, created_ns: int, owner: str) -> Segment:
        """Name a segment; the file is made by the first write."""
        return cls(f"{created_ns:016x}-{owner}.v1.frames", owner)

    @property
    def _mark(self) -> bytes:
        # Records are found again by it behind broken ones. It is random, so that no event's
        # content can pass for a record.
        return bytes.fromhex(self.owner)[:4]

    def record(self, shard: int, frame: bytes) -> bytes:
        """Return a frame as it is written."""
        return _RECORD.pack(self._mark, len(frame), zlib.crc32(frame, shard), shard) + frame

    def next_record(self, fd: int, start: int) -> Record | None:
        """Return the first intact record at or after ``start``."""
        record = self._record_at(fd, start)
        if record or start >= self.size:
            return record
        rest = os.pread(fd, self.size - start, start)
        found = rest.find(self._mark, 1)
        while found >= 0 and not record:
            record = self._record_at(fd, start + found)
            found = rest.find(self._mark, found + 1)
        return record

    def _record_at(self, fd: int, start: int) -> Record | None:
        head = os.pread(fd, _RECORD.size, start)
        if len(head) < _RECORD.size:
            return None
        mark, length, checksum, shard = _RECORD.unpack(head)
        end = start + _RECORD.size + length
        if mark != self._mark or end > self.size:
            return None
        frame = os.pread(fd, length, start + _RECORD.size)
        if len(frame) < length or zlib.crc32(frame, shard) != checksum:
            return None
        return Record(shard, frame, start, end)


class SpoolFolder:
    """A folder of segments and locks.

    Locks are ``flock``. POSIX locks (``lockf``) would be lost as soon as this process closed
    *any* descriptor of the file, and would not keep two spools of one process apart. A
    ``flock`` belongs to the open file that a forked child inherits, and has two traps: the
    child must never unlock, which would unlock the parent, and must close its copy, or the
    parent's lock would outlive the parent. So here a lock ends only by closing, which is
    right in both. Only the folder and the locks stay open, unbuffered: a child has nothing
    that it could write by mistake.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.locked: dict[str, int] = {}
        """Descriptors of the locks we hold, by owner."""
        self._fd = -1

    @property
    def is_open(self) -> bool:
        """Whether the folder is open and checked."""
        return self._fd >= 0

    def open(self, create: bool) -> bool:
        """Open and check the folder, unless that is done.

        Returns:
            Whether it exists.

        Raises:
            OSError: It cannot be made or opened.
            SpoolUnavailable: Others could change what we put there.
        """
        if self.is_open:
            return True
        if create:
            with suppress(FileExistsError):  # what is there is looked at below
                self.path.mkdir(mode=0o700, parents=True)
        if self.path.is_symlink():  # O_NOFOLLOW below is what holds; this says it better
            raise self._unfit("is a symbolic link, which another user may have made")
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | _SAFE)
        except FileNotFoundError:
            if create:
                raise
            return False
        if flaw := _flaw(os.fstat(fd)):
            os.close(fd)
            raise self._unfit(flaw)
        self._fd = fd
        return True

    def close(self) -> None:
        """Close everything, which ends the locks of this process; delete nothing."""
        for fd in (*self.locked.values(), self._fd):
            if fd >= 0:
                os.close(fd)
        self.locked = {}
        self._fd = -1

    def is_in_place(self, owner: str) -> bool:
        """Whether the folder, and the owner's lock if one is named, are still on disk."""
        try:
            is_same = os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False
        return is_same and (not owner or self._is_lock_in_place(owner))

    def owners(self) -> list[str]:
        """Return all owners on disk; those with the oldest segments first."""
        names = sorted(os.listdir(self._fd))
        found = [_SEGMENT_NAME.match(name) for name in names]
        found += [_LOCK_NAME.match(name) for name in names]
        return list(dict.fromkeys(match[1] for match in found if match))

    def segments(self, owner: str) -> list[Segment]:
        """Return an owner's segments, oldest first. Sure only while its lock is ours."""
        segments = []
        for name in sorted(os.listdir(self._fd)):
            match = _SEGMENT_NAME.match(name)
            if match and match[1] == owner:
                with suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                        segments.append(Segment(name, owner, status.st_size))
        return segments

    def new_owner(self) -> str:
        """Become an owner: make a name and hold its lock."""
        for _ in range(_LOCK_ATTEMPTS):
            owner = secrets.token_hex(_OWNER_BYTES)
            if self.lock(owner):
                return owner
        # Adopters take the lock of an owner without segments for a leftover; not every time.
        raise SpoolUnavailable(f"The spool in {self.path} is too busy to take a lock.")

    def lock(self, owner: str) -> bool:
        """Take an owner's lock if it is free; return whether it is ours now."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _SAFE
        self.locked[owner] = fd = os.open(f"{owner}.lock", flags, 0o600, dir_fd=self._fd)
        is_ours = False
        try:
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The one who held it may have deleted it since we opened it.
                is_ours = self._is_lock_in_place(owner)
        finally:
            if not is_ours:
                os.close(self.locked.pop(owner))
        return is_ours

    def unlock(self, owner: str) -> None:
        """Release a lock and delete its file; who adopts what it guarded makes a new one."""
        with suppress(OSError):  # a leftover, which the next adopter deletes
            os.unlink(f"{owner}.lock", dir_fd=self._fd)
        os.close(self.locked.pop(owner))

    @contextmanager
    def opened(self, segment: Segment, flags: int) -> Iterator[int]:
        """Open a segment for a while. One more system call a use, and nothing to leak."""
        fd = os.open(segment.name, flags | _SAFE, 0o600, dir_fd=self._fd)
        try:
            yield fd
        finally:
            os.close(fd)

    def write(self, segment: Segment, shard: int, frame: bytes) -> None:
        """Append a frame to a segment, or leave the segment as it was.

        Raises:
            OSError: The disk did not take all of it.
        """
        rest = memoryview(record := segment.record(shard, frame))
        with self.opened(segment, os.O_WRONLY | os.O_CREAT) as fd:
            try:
                while rest:
                    rest = rest[os.pwrite(fd, rest, segment.size + len(record) - len(rest)) :]
            except OSError:
                # Should this fail too: we neither read nor count beyond `size`, and the next
                # write goes there again. An adopter finds a torn tail.
                with suppress(OSError):
                    os.ftruncate(fd, segment.size)
                    if not segment.size:
                        os.unlink(segment.name, dir_fd=self._fd)
                raise
        segment.size += len(record)

    def remove(self, segment: Segment) -> None:
        """Delete a segment; put a corrupt one aside while there are few of them.

        Raises:
            OSError: It cannot be deleted.
        """
        with suppress(FileNotFoundError):
            if segment.is_corrupt and self._corrupt_files() < _CORRUPT_MAX_FILES:
                aside = segment.name + _CORRUPT
                os.rename(segment.name, aside, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            else:
                os.unlink(segment.name, dir_fd=self._fd)

    @contextmanager
    def errors(self, verb: str) -> Iterator[None]:
        """Turn what the system says into a :class:`SpoolUnavailable`."""
        try:
            yield
        except OSError as error:
            raise self.unavailable(verb, error) from error

    def unavailable(self, verb: str, error: OSError, name: str = "") -> SpoolUnavailable:
        """Say what failed, where, and what to do about it."""
        path = self.path / name
        return SpoolUnavailable(f"Cannot {verb} the spool {path}: {error.strerror}. {_REMEDY}")

    def _unfit(self, flaw: str) -> SpoolUnavailable:
        return SpoolUnavailable(
            f"The spool folder {self.path} {flaw}. Remove it, or set TAILRACE['SPOOL_DIR'] to a "
            "new folder, also one inside it: Tailrace makes it, for this user only."
        )

    def _corrupt_files(self) -> int:
        return sum(name.endswith(_CORRUPT) for name in os.listdir(self._fd))

    def _is_lock_in_place(self, owner: str) -> bool:
        try:
            on_disk = os.stat(f"{owner}.lock", dir_fd=self._fd, follow_symlinks=False)
            return os.path.samestat(on_disk, os.fstat(self.locked[owner]))
        except FileNotFoundError:
            return False


def _flaw(status: os.stat_result) -> str:
    """Say what makes a folder unfit for private files; nothing if it is fit."""
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, and we run as user {os.geteuid()}"
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if others_write and not status.st_mode & stat.S_ISVTX:
        return "can be written by other users, who could swap our files"
    return ""
