"""The drain: from a shard of the stream into one backend, exactly once.

Read after the checkpoint, decode, then in one transaction of the backend: drop what was seen
before, write the rows, park what is bad, book the ledger, move the checkpoint. Only then trim.
A crash anywhere leaves either nothing or everything of a batch.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from . import ledger
from .checkpoint import Checkpoint
from .codec import FrameHeader
from .config import Config
from .dead_letter import FRAME_MAX_BYTES, DeadLetter, write_or_reject
from .errors import CheckpointConflict, RejectedEvents
from .event import INVALID_MEASUREMENT, Event
from .faults import fault
from .ledger import Bookings, HighWater, minute_of
from .read_ahead import Frame, Reader, reading
from .stream import ShardState, Stream, id_key

logger = logging.getLogger("tailrace")

_measurement_of = attrgetter("measurement")

LEASE_SECONDS = 5.0
"""A drainer that is silent for this long is taken for dead. So long does a shard wait for the next
one after a SIGKILL; one that is only slow finds its checkpoint moved, and nothing is lost."""


class Backend(Protocol):
    """What the drain needs of a backend; see :class:`tailrace.backends.base.BaseBackend`."""

    alias: str

    @property
    def batch_factor(self) -> int: ...
    def read_checkpoint(self, shard: int) -> Checkpoint | None: ...
    def create_checkpoint(self, checkpoint: Checkpoint) -> None: ...
    def transaction(self, shard: int) -> AbstractContextManager[Any]: ...


class DrainResult(NamedTuple):
    """What one run of the drain did."""

    events: int
    """Events stored or parked."""
    is_empty: bool
    """Whether the shard was drained to its end."""


class Drain:
    """Drains the shards of one stream into one backend."""

    def __init__(
        self,
        config: Config,
        stream: Stream,
        backend: Backend,
        accepts: Callable[[str], bool],
        aliases: Sequence[str],
    ) -> None:
        """Prepare; nothing is connected to yet.

        Args:
            config: Gives the bounds.
            stream: Where from.
            backend: Where to.
            accepts: Whether a measurement belongs to this backend.
            aliases: All configured backends; an entry is kept until each has committed it.
        """
        self._config = config
        self._stream = stream
        self._backend = backend
        self._accepts = accepts
        self._aliases = list(aliases)
        self._batch_events = config.drain_batch_events * backend.batch_factor

    def run(self, shard: int, seconds: float) -> DrainResult:
        """Drain a shard until it is empty or the time is up.

        Whoever finds the lease taken leaves at once. Nothing depends on the lease: without
        it, two drainers would do the same work and one of them would undo its own.

        Raises:
            StreamUnavailable, BackendError: nothing is lost; try again later.
        """
        alias = self._backend.alias
        deadline = time.monotonic() + seconds
        total = 0
        with (
            self._stream.lease(shard, alias, LEASE_SECONDS) as is_ours,
            reading(self._stream, shard, self._batch_events) as reader,
        ):
            if not is_ours:
                return DrainResult(0, is_empty=True)
            known: Checkpoint | None = None
            while True:
                (events, is_empty), known = self._drain_batch(shard, reader, known)
                total += events
                if is_empty or time.monotonic() >= deadline:
                    return DrainResult(total, is_empty)
                self._stream.renew_lease(shard, alias, LEASE_SECONDS)

    # --- one batch

    def _drain_batch(
        self, shard: int, reader: Reader, known: Checkpoint | None
    ) -> tuple[DrainResult, Checkpoint | None]:
        """Drain one batch after the checkpoint that we know, or else the one that is stored.

        Returns:
            What was done, and the checkpoint after it, if that is known for sure. Should it be
            wrong all the same, the transaction finds out.
        """
        state = self._stream.state(shard)
        checkpoint = known or self._checkpoint(shard, state)
        position = checkpoint.resume_after(state)
        frames = reader.read(position, state.epoch)
        if not frames:
            self._release(shard, position)
            return DrainResult(0, is_empty=True), None
        try:
            events = self._store(checkpoint, state, frames)
        except CheckpointConflict as conflict:
            logger.info("shard %s of %s: %s", shard, self._backend.alias, conflict)
            return DrainResult(0, is_empty=False), None
        fault("after_commit")
        last = frames[-1].entry.id
        self._release(shard, last)
        return DrainResult(events, is_empty=False), _moved(checkpoint, state, last)

    def _checkpoint(self, shard: int, state: ShardState) -> Checkpoint:
        checkpoint = self._backend.read_checkpoint(shard)
        if checkpoint is None:
            self._backend.create_checkpoint(Checkpoint.first(shard, state))
            checkpoint = self._backend.read_checkpoint(shard)
            assert checkpoint is not None, f"{self._backend.alias} did not keep its checkpoint"
        return checkpoint

    def _store(self, checkpoint: Checkpoint, state: ShardState, frames: list[Frame]) -> int:
        """Store frames in one transaction, or in one each where one of them has bad events.

        Finding bad events takes many small writes; frame by frame, none of the transactions
        gets long for it.
        """
        if len(frames) > 1:
            try:
                return self._store_at_once(checkpoint, state, frames, is_bisecting=False)
            except RejectedEvents:
                logger.info("shard %s: bad events; going frame by frame", checkpoint.shard)
        stored = 0
        for frame in frames:
            stored += self._store_at_once(checkpoint, state, [frame], is_bisecting=True)
            checkpoint = _moved(checkpoint, state, frame.entry.id)
        return stored

    def _store_at_once(
        self, checkpoint: Checkpoint, state: ShardState, frames: list[Frame], is_bisecting: bool
    ) -> int:
        with self._backend.transaction(checkpoint.shard) as tx:
            if tx.checkpoint != checkpoint:
                raise CheckpointConflict(
                    f"another drainer is at {tx.checkpoint.position}, we were at "
                    f"{checkpoint.position}"
                )
            batch = _Batch(self._accepts, _gap_outcome(checkpoint, state))
            batch.take(frames, tx, checkpoint)
            if is_bisecting:
                batch.reject(write_or_reject(tx.write, batch.events))
            elif batch.events:
                tx.write(batch.events)
            if batch.letters:
                tx.park(batch.letters)
            tx.book(batch.bookings.amounts())
            tx.advance(_moved(checkpoint, state, frames[-1].entry.id), batch.high_waters())
            fault("before_commit")
        return batch.count

    def _release(self, shard: int, position: str) -> None:
        """Let the stream go of what every backend has."""
        self._stream.publish_position(shard, self._backend.alias, position)
        fault("before_trim")
        self._stream.trim(shard, self._aliases)
        fault("mid_trim")


class _Batch:
    """What one transaction writes."""

    def __init__(self, accepts: Callable[[str], bool], gap_outcome: str) -> None:
        self._accepts = accepts
        self._gap_outcome = gap_outcome
        self._marks: dict[bytes, HighWater] = {}
        self._touched: dict[bytes, HighWater] = {}
        self._taken: list[tuple[int, list[Event]]] = []
        self.events: list[Event] = []
        self.letters: list[DeadLetter] = []
        self.bookings = Bookings(accepts)
        self.count = 0

    def take(self, frames: list[Frame], tx: Any, checkpoint: Checkpoint) -> None:
        """Sort out what is new in these frames, and book it."""
        producers = {frame.header.producer for frame in frames if frame.header is not None}
        self._marks = tx.high_waters(producers)
        for frame in frames:
            header = frame.header
            if header is None:
                self._park_unreadable(frame)
                continue
            mark = self._marks.get(header.producer) or checkpoint.first_mark(header)
            if header.sequence <= mark.sequence:
                continue  # a copy: a retried XADD, or an entry that was stored before
            if header.sequence > mark.sequence + 1:
                tx.note_gap(header.producer)
            self.bookings.add_frame(header, mark, self._gap_outcome)
            self._marks[header.producer] = mark.after(header)
            self._touched[header.producer] = self._marks[header.producer]
            if frame.error is not None:
                self._park_frame(frame, header)
            else:
                self._take_events(frame, header)

    def reject(self, rejected: list[tuple[Event, str]]) -> None:
        """Park events that were to be stored."""
        if not rejected:
            return
        minutes = {event.id: minute for minute, events in self._taken for event in events}
        for event, reason in rejected:
            minute = minutes[event.id]
            self.bookings.add(minute, event.measurement, ledger.STORED, -1)
            self._park_event(event, reason, minute)

    def high_waters(self) -> list[HighWater]:
        """Return the marks that moved."""
        return list(self._touched.values())

    def _take_events(self, frame: Frame, header: FrameHeader) -> None:
        # Comprehensions: a loop that looks at each event costs 0.5 us more for each.
        minute = minute_of(header.created_ns)
        good, counts = frame.events, header.events
        accepted = {measurement for measurement in counts if self._accepts(measurement)}
        if len(accepted) < len(counts):
            good = [event for event in good if event.measurement in accepted]
            counts = {name: amount for name, amount in counts.items() if name in accepted}
        self.count += len(good)
        if not frame.is_clean:
            for event in good:
                if event.rejected is not None:
                    self._park_event(event, event.rejected, minute)
            good = [event for event in good if event.rejected is None]
            counts = Counter(map(_measurement_of, good))
        self.events += good
        self._taken.append((minute, good))
        # What the header counts is what decoding found.
        for measurement, amount in counts.items():
            self.bookings.add(minute, measurement, ledger.STORED, amount)

    def _park_event(self, event: Event, reason: str, minute: int) -> None:
        self.bookings.add(minute, event.measurement, ledger.DEAD_LETTERED, 1)
        self.letters.append(DeadLetter.of_event(event, reason, minute))

    def _park_frame(self, frame: Frame, header: FrameHeader) -> None:
        """Park a frame whose header tells what is in it, one letter a measurement."""
        minute = minute_of(header.created_ns)
        for measurement, amount in header.events.items():
            if not self._accepts(measurement):
                continue
            self.count += amount
            self.bookings.add(minute, measurement, ledger.DEAD_LETTERED, amount)
            self._park(frame, measurement, amount, minute)

    def _park_unreadable(self, frame: Frame) -> None:
        # How many events it held shows when its producer's next frame comes: as a gap.
        self._park(frame, INVALID_MEASUREMENT, 0, 0)

    def _park(self, frame: Frame, measurement: str, events: int, minute: int) -> None:
        self.letters.append(
            DeadLetter(
                measurement=measurement,
                reason=frame.error or "",
                frame=frame.entry.frame[:FRAME_MAX_BYTES],
                events=events,
                entry_id=frame.entry.id,
                minute=minute,
            )
        )


def _moved(checkpoint: Checkpoint, state: ShardState, position: str) -> Checkpoint:
    return Checkpoint(checkpoint.shard, position, state.epoch, checkpoint.created_ns)


def _gap_outcome(checkpoint: Checkpoint, state: ShardState) -> str:
    """Return what frames that are missing after this checkpoint were lost to."""
    if id_key(state.trimmed_through) > id_key(checkpoint.position):
        return ledger.DROPPED_STREAM_TRIMMED
    return ledger.DROPPED_REDIS_LOST
