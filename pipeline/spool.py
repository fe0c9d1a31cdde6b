"""The spool: where a process keeps frames on disk while Redis is down.

One private folder serves all processes of a user. Each spool in use is an *owner* with a random
name, and appends to segments of its own::

    <created, ns>-<owner>.v1.frames   records: mark, length u32, crc32 u32, shard u16, frame
    <owner>.lock                      locked for as long as the owner lives
    <segment>.corrupt                 segments with bytes that cannot be read; a few are kept

Order: an owner's creation times only grow, so sorting by name keeps each producer's order, and
puts what dead processes left before our newer frames; between producers, clocks decide.

Crashes: what was appended survives the process, even ``kill -9``; without an fsync, a power cut
may take the last seconds. How much of a segment was sent is not written down: who adopts it
sends it from its beginning, and the drain drops the copies by their sequence numbers. What is
lost here, torn or deleted by hand, is a gap in the sequence, which the drain counts.

Disk: a spool holds ``max_bytes`` at most, own and adopted together, and adopts before its first
append, so processes that come and go in a long outage take no more than as many as ever ran at
once. Beside that lie at most four corrupt segments.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from .config import Overflow
from .errors import SpoolUnavailable
from .spool_files import RECORD_HEAD_BYTES, Record, Segment, SpoolFolder

logger = logging.getLogger("tailrace")

_SEGMENT_MAX_BYTES = 4 * 2**20
_SEGMENTS_MIN = 8
"""A small spool has so many segments too: dropping the oldest costs an eighth of it."""
_ADOPT_MAX_OWNERS = 64
"""Adopted at once; each holds a file descriptor until it is sent."""

Frame = bytes  # within Spool, `bytes` is a property


class Spool:
    """A queue of frames on disk, bounded in bytes.

    Several processes may use one folder. Within a process, one thread at a time.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int,
        overflow: Overflow,
        on_drop: Callable[[list[Frame]], None],
    ) -> None:
        """Prepare a spool; nothing on disk is touched before the first append or adoption.

        Args:
            directory: The folder; made when needed, readable by this user only.
            max_bytes: Disk for own and adopted segments together.
            overflow: What happens when that is full.
            on_drop: Gets each frame that ``overflow`` costs, and any larger than the spool.
        """
        self._folder = SpoolFolder(directory)
        self._max_bytes = max_bytes
        self._segment_bytes = min(_SEGMENT_MAX_BYTES, max_bytes // _SEGMENTS_MIN)
        self._overflow = overflow
        self._on_drop = on_drop
        self._warned: set[str] = set()
        self._reset()

    def _reset(self) -> None:
        self._owner = ""
        self._created_ns = 0
        self._segments: list[Segment] = []  # each has an unsent frame, as far as we know
        self._peeked: list[tuple[Segment, int]] = []

    @property
    def is_empty(self) -> bool:
        """Whether no frame waits here (what others have left and we did not adopt is theirs)."""
        return not self._segments

    @property
    def bytes(self) -> int:
        """Disk that own and adopted segments take."""
        return sum(segment.size for segment in self._segments)

    def append(self, items: Sequence[tuple[int, Frame]]) -> int:
        """Add frames, each with its shard, at the end.

        Returns:
            How many from the front are dealt with: on disk, or handed to ``on_drop``. Fewer
            than given with ``block`` when there is no room, or when the disk failed on the
            way; the caller keeps the rest.

        Raises:
            SpoolUnavailable: None is dealt with; says why, such as a full disk.
        """
        done = 0
        try:
            if items:
                self._open()
            for shard, frame in items:
                if not self._append(shard, frame):
                    break
                done += 1
        except SpoolUnavailable:
            if not done:
                raise  # else the caller meets it again with the rest
        return done

    def peek(self, max_frames: int, max_bytes: int) -> list[tuple[int, Frame]]:
        """Return the oldest frames without removing them; none only if there are none.

        Args:
            max_frames: How many at most.
            max_bytes: Their size together; the first is returned whatever its size.

        Raises:
            SpoolUnavailable: The files cannot be opened now.
        """
        self._peeked = []
        items: list[tuple[int, Frame]] = []
        for segment in list(self._segments):
            is_readable = False
            with closing(self._unsent(segment)) as records:
                for record in records:
                    is_readable = True
                    max_bytes -= len(record.frame)
                    if items and max_bytes < 0:
                        return items
                    items.append((record.shard, record.frame))
                    self._peeked.append((segment, record.end))
                    if len(items) >= max_frames:
                        return items
            if not is_readable:
                self._retire(segment)
        return items

    def commit(self, frames: int) -> None:
        """Remove the first ``frames`` of the last :meth:`peek`: they were sent.

        Raises:
            ValueError: The last peek returned fewer.
        """
        if not 0 <= frames <= len(self._peeked):
            raise ValueError(f"commit of {frames} frames, but {len(self._peeked)} are peeked")
        ends = dict(self._peeked[:frames])  # the last frame's end in each segment
        del self._peeked[:frames]
        for segment, segment_end in ends.items():
            segment.sent = segment_end
            with suppress(SpoolUnavailable):  # it stays, and the next peek tells
                self._retire_if_sent(segment)

    def adopt_orphans(self) -> int:
        """Take over the segments of processes that are gone, as far as they fit.

        An owner's segments go to one adopter, all together. A spool that is empty takes an
        owner's whatever their size, so that none stays behind for good. Returns how many
        segments were adopted.

        Raises:
            SpoolUnavailable: The folder cannot be read, or is not private.
        """
        before = len(self._segments)
        self._start_over_if_deleted()
        with self._folder.errors("read"):
            if not self._folder.open(create=False):
                return 0
            for owner in self._folder.owners():
                if len(self._folder.locked) > _ADOPT_MAX_OWNERS:
                    break
                if owner not in self._folder.locked and self._folder.lock(owner):
                    self._adopt(owner)
        self._segments.sort(key=lambda segment: segment.name)
        return len(self._segments) - before

    def close(self) -> None:
        """Leave what is unsent on disk for whoever adopts it, and release the locks.

        A later :meth:`append` or :meth:`adopt_orphans` starts again.
        """
        for owner in list(self._folder.locked):
            self._folder.unlock(owner)
        self._folder.close()
        self._reset()

    def after_fork_in_child(self) -> None:
        """Forget the parent's files without touching them; this process starts empty."""
        self._folder.close()
        self._reset()

    # --- writing

    def _open(self) -> None:
        self._start_over_if_deleted()
        if self._owner:
            return
        with self._folder.errors("write"):
            self._folder.open(create=True)
            self._owner = self._folder.new_owner()
        self.adopt_orphans()

    def _start_over_if_deleted(self) -> None:
        """Let go of a folder or lock that somebody deleted, such as a cleaner of /tmp."""
        if self._folder.is_open and not self._folder.is_in_place(self._owner):
            self._warn("it was deleted while in use; frames that waited there may be lost")
            self._folder.close()
            self._reset()

    def _append(self, shard: int, frame: Frame) -> bool:
        """Add one frame; return whether it is dealt with."""
        size = RECORD_HEAD_BYTES + len(frame)
        while self.bytes + size > self._max_bytes:
            if self._overflow == "drop_newest" or size > self._max_bytes:
                self._on_drop([frame])
                return True
            if self._overflow == "block":
                return False
            oldest = self._segments[0]
            frames = [record.frame for record in self._unsent(oldest)]
            self._retire(oldest)
            if frames:
                self._on_drop(frames)
        segment = self._segment_for(size)
        with self._folder.errors("write"):
            self._folder.write(segment, shard, frame)
        if segment.size == size:
            self._segments.append(segment)
        return True

    def _segment_for(self, size: int) -> Segment:
        """Return our last segment if it has room, else a new one."""
        own = [segment for segment in self._segments if segment.owner == self._owner]
        if own and own[-1].size + size <= self._segment_bytes:
            return own[-1]
        self._created_ns = max(time.time_ns(), self._created_ns + 1)  # clocks may step back
        return Segment.new(self._created_ns, self._owner)

    # --- reading

    def _unsent(self, segment: Segment) -> Generator[Record, None, None]:
        """Yield a segment's unsent frames, past those that cannot be read."""
        position = segment.sent
        try:
            with self._folder.opened(segment, os.O_RDONLY) as fd:
                while record := segment.next_record(fd, position):
                    segment.is_corrupt |= record.start > position
                    position = record.end
                    yield record
        except OSError as error:
            # A file that is gone or on a broken disk must not hold up those after it; all
            # else, such as too many open files, may pass.
            if error.errno not in (errno.ENOENT, errno.EIO):
                raise self._folder.unavailable("read", error, segment.name) from error
        segment.is_corrupt |= position < segment.size
        if segment.is_corrupt:
            self._warn(
                "parts of %s are gone or unreadable; the rest is sent, the ledger counts the gap. "
                "Look for *.corrupt files, and delete them afterwards",
                segment.name,
            )

    def _adopt(self, owner: str) -> None:
        segments = self._folder.segments(owner)
        size = sum(segment.size for segment in segments)
        has_room = not self._segments or self.bytes + size <= self._max_bytes
        if not segments or not has_room:
            self._folder.unlock(owner)
            return
        self._segments += segments
        for segment in segments:
            self._retire_if_sent(segment)

    def _retire_if_sent(self, segment: Segment) -> None:
        with closing(self._unsent(segment)) as records:
            if segment in self._segments and next(records, None) is None:
                self._retire(segment)

    def _retire(self, segment: Segment) -> None:
        """Delete a segment of which nothing is left to send."""
        self._segments.remove(segment)
        try:
            self._folder.remove(segment)
        except OSError as error:
            self._warn("%s cannot be deleted (%s); it is sent again", segment.name, error.strerror)
        if segment.owner not in {self._owner, *(other.owner for other in self._segments)}:
            self._folder.unlock(segment.owner)

    def _warn(self, what: str, *args: object) -> None:
        """Log each kind of trouble once."""
        if what not in self._warned:
            self._warned.add(what)
            logger.warning("the spool in %s: " + what, self._folder.path, *args)
