"""Reading a shard: entries, decoded, one batch ahead of the one that is being stored.

While the storage writes a batch, this process has little to do; reading and decoding the next
one in a thread meanwhile made the drain into PostgreSQL a quarter faster
(docs/decisions/0003).
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from .codec import FrameHeader, decode_events, decode_header
from .errors import FrameError
from .event import Event
from .faults import fault
from .stream import Entry, Stream

_READ_ENTRIES = 32
_READ_MAX_BYTES = 16 * 2**20
"""Of frames in one batch; in memory there are about two batches."""


class Frame(NamedTuple):
    """A stream entry, decoded as far as possible."""

    entry: Entry
    header: FrameHeader | None
    events: list[Event]
    error: str | None
    is_clean: bool = False
    """Whether all of its events can be stored, as far as capture knows."""


class Reader:
    """Reads one shard for one run of a drain."""

    def __init__(self, stream: Stream, shard: int, max_events: int) -> None:
        """Read nothing yet.

        Args:
            stream: Where from.
            shard: Which one.
            max_events: A batch is full when it has so many.
        """
        self._stream = stream
        self._shard = shard
        self._max_events = max_events
        self._executor: ThreadPoolExecutor | None = None
        self._next: tuple[str, str, Future[list[Frame]]] | None = None
        self._given: list[Frame] = []

    def read(self, after: str, epoch: str) -> list[Frame]:
        """Return a batch of frames, and start on the one that follows it.

        The batch that was returned before is gone then.

        Args:
            after: Position.
            epoch: Redis's memory that the position belongs to. What was read ahead is used
                only if it is still the same; reading ahead can then have missed nothing.

        Raises:
            StreamUnavailable: of this batch; what goes wrong ahead is found out by the next.
        """
        old, self._given = self._given, self._taken(after, epoch) or self._read(after, [])
        if sum(len(frame.events) for frame in self._given) >= self._max_events:
            self._start(self._given[-1].entry.id, epoch, old)
        return self._given

    def close(self) -> None:
        """Wait for the thread."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def _taken(self, after: str, epoch: str) -> list[Frame]:
        ahead, self._next = self._next, None
        if ahead is None:
            return []
        frames = ahead[2].result()
        return frames if ahead[:2] == (after, epoch) else []

    def _start(self, after: str, epoch: str, old: list[Frame]) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "tailrace-read-ahead")
        # The context says, among other things, that nothing here is to be recorded.
        run = contextvars.copy_context().run
        self._next = after, epoch, self._executor.submit(run, self._read, after, old)

    def _read(self, after: str, old: list[Frame]) -> list[Frame]:
        fault("before_read")
        entries = self._entries(after)
        fault("after_read")
        frames = []
        old_frames = len(old)
        for left, entry in zip(range(len(entries) - 1, -1, -1), entries, strict=True):
            frames.append(_decode(entry))
            # To let go of events takes a third of the time that it takes to decode them. Here
            # nobody waits for it; and bit by bit, no third batch piles up.
            del old[old_frames * left // len(entries) :]
        fault("after_decode")
        return frames

    def _entries(self, after: str) -> list[Entry]:
        """Read until there are enough events for a transaction."""
        entries: list[Entry] = []
        events = size = 0
        while events < self._max_events and size < _READ_MAX_BYTES:
            some = self._stream.read(self._shard, after, _READ_ENTRIES)
            for entry in some:
                events += _count_events(entry)
                size += len(entry.frame)
            entries += some
            if len(some) < _READ_ENTRIES:
                break
            after = some[-1].id
        return entries


@contextmanager
def reading(stream: Stream, shard: int, max_events: int) -> Iterator[Reader]:
    """Read a shard; see :class:`Reader`."""
    reader = Reader(stream, shard, max_events)
    try:
        yield reader
    finally:
        reader.close()


def _decode(entry: Entry) -> Frame:
    header = None
    try:
        header = decode_header(entry.frame)
        events = decode_events(entry.frame, header)
        is_clean = {event.rejected for event in events} <= {None}
        return Frame(entry, header, events, None, is_clean)
    except FrameError as error:
        return Frame(entry, header, [], str(error))


def _count_events(entry: Entry) -> int:
    try:
        return decode_header(entry.frame).event_count
    except FrameError:
        return 0
