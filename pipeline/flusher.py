"""The flusher: turns what is buffered into frames and sends them.

One daemon thread a process, started with the first event. Everything below runs under one
lock, so that ``flush()`` in any thread, and the end of the process, can do the same work.
"""

from __future__ import annotations

import logging
import threading
import time
from itertools import groupby
from operator import itemgetter
from typing import Any

from . import ledger
from .backlog import Backlog, Item
from .breaker import Breaker
from .buffer import Buffer
from .codec import FrameHeader, decode_header
from .config import Config
from .context import suppress_recording
from .errors import StreamFull, StreamUnavailable
from .normalize import Normalizer, rejected
from .producer import Producer
from .sampling import Sampler
from .stream import Stream

logger = logging.getLogger("tailrace")

_SEND_MAX_FRAMES = 64
_SEND_MAX_BYTES = 4 * 2**20
_ADOPT_SECONDS = 30.0
_MEMORY_CHECK_SECONDS = 10.0
_WARN_SECONDS = 60.0
_SHARD = itemgetter(0)
# A tuple, two dicts and their small values, measured with tracemalloc at 600 to 1,100 bytes
# an event of 3 tags and 5 fields, whose encoded size is about 130.
_EVENT_OVERHEAD_BYTES = 800


class Flusher:
    """Sends what a :class:`Buffer` holds. Made for one process; a fork makes its own."""

    def __init__(self, config: Config, buffer: Buffer) -> None:
        self._config = config
        self._buffer = buffer
        self._producer = Producer(config.shards, config.tags)
        self._normalizer = Normalizer(config, self._on_recorder_error)
        self._sampler = Sampler(config)
        self._stream = Stream(config, config.redis_timeout_seconds)
        self._backlog = Backlog(config, self._on_spool_drop)
        self._breaker = Breaker()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._is_stopping = self._is_closed = False
        self._memories: dict[int, str] = {}
        self._stubs: dict[bytes, FrameHeader] = {}
        self._may_have_lost_memory = False
        self._sent_at = self._adopted_at = self._warned_at = 0.0

    # --- life

    def start(self) -> None:
        """Start the thread, unless it runs."""
        with self._lock:
            if self._thread is None and not self._is_stopping:
                self._thread = threading.Thread(
                    target=self._run, name="tailrace-flusher", daemon=True
                )
                self._thread.start()

    def flush(self, timeout_seconds: float) -> bool:
        """Send what is buffered now.

        Returns:
            Whether all of it is in Redis; ``False`` if it waits in the spool, or if the
            flusher was busy for longer than ``timeout_seconds``.
        """
        if not self._lock.acquire(timeout=timeout_seconds):
            return False
        try:
            with suppress_recording():
                self._cycle()
            return self._backlog.is_empty and not len(self._buffer)
        finally:
            self._lock.release()

    def close(self, deadline_seconds: float) -> None:
        """Send or spool everything, say goodbye, and stop. Idempotent."""
        self._is_stopping = True
        self._buffer.wake.set()
        if not self._lock.acquire(timeout=deadline_seconds):
            logger.error("the flusher did not come to an end within %s s", deadline_seconds)
            return
        try:
            if not self._is_closed and self._has_recorded:
                self._say_goodbye()
            self._is_closed = True
            self._backlog.close()
            self._stream.close()
        finally:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Let go of the parent's files."""
        self._backlog.after_fork_in_child()

    def _run(self) -> None:
        while not self._is_stopping:
            self._buffer.wake.wait(self._config.flush_interval_seconds)
            self._buffer.wake.clear()
            with self._lock, suppress_recording():
                if self._is_stopping:
                    return
                try:
                    self._cycle()
                except Exception:
                    # This thread must outlive any bug of ours, or the process goes mute.
                    logger.exception("the flusher failed; it tries again")
                    self._breaker.failed()

    @property
    def _has_recorded(self) -> bool:
        """Whether anything was ever recorded here; else the end is no reason to connect."""
        is_used = self._thread is not None or bool(self._producer.shards_in_use)
        return is_used or len(self._buffer) > 0 or not self._backlog.is_empty

    def _say_goodbye(self) -> None:
        with suppress_recording():
            self._breaker.succeeded()  # one attempt more, even in the middle of a pause
            self._cycle()
            shards = self._producer.shards_in_use
            self._dispatch([self._producer.counting_frame(shard, is_last=True) for shard in shards])

    # --- one cycle

    def _cycle(self) -> None:
        frames = [] if self._backlog.must_wait else self._collect()
        stubs, self._stubs = self._stubs, {}
        frames += [self._producer.stub_frame(stub) for stub in stubs.values()]
        for outcome, totals in self._buffer.lost().items():
            self._producer.set_total(outcome, totals)
        for kind, counts in self._normalizer.notes.items():
            self._producer.set_total(ledger.NOTE + kind, counts)
        if not frames and self._producer.has_unreported_counts:
            frames = [self._producer.counting_frame()]
        self._dispatch(frames)
        self._look_after_backlog()
        self._look_for_lost_memory()

    def _collect(self) -> list[Item]:
        """Take what is in the buffer now, as frames."""
        frames: list[Item] = []
        waiting = len(self._buffer)
        while waiting > 0:
            raws = self._buffer.take(min(waiting, self._config.frame_max_events))
            if not raws:
                break
            waiting -= len(raws)
            events = self._normalized(raws)
            if events:
                self._frame(events, frames)
        return frames

    def _normalized(self, raws: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        if self._sampler.is_active:
            raws = [raw for raw in raws if self._is_sampled(raw)]
        return self._normalizer.batch(raws)

    def _is_sampled(self, raw: tuple[Any, ...]) -> bool:
        measurement, trace_id = raw[0], raw[4]
        if not isinstance(measurement, str):
            return True  # it will be rejected, and that must be seen
        trace_id = trace_id if isinstance(trace_id, str) else None
        if self._sampler.keeps(measurement, trace_id):
            return True
        self._buffer.count_lost(ledger.SAMPLED_OUT, measurement)
        return False

    def _frame(self, events: list[tuple[Any, ...]], frames: list[Item]) -> None:
        """Encode events as one frame, or as two halves where they are too large for one."""
        try:
            payload = self._producer.payload(events)
        except (TypeError, ValueError, OverflowError):
            # ValueError: UnicodeEncodeError is one. Something slipped through the fast path.
            events = [self._normalizer.slow(event) for event in events]
            payload = self._producer.payload(events)
        self._buffer.set_event_cost(_EVENT_OVERHEAD_BYTES + 2 * len(payload) / len(events))
        if len(payload) <= self._config.frame_max_bytes:
            measurements = map(_SHARD, events)
            frames.append(self._producer.frame(len(frames), measurements, payload))
        elif len(events) > 1:
            middle = len(events) // 2
            self._frame(events[:middle], frames)
            self._frame(events[middle:], frames)
        else:
            reason = (
                f"the event takes {len(payload)} bytes; TAILRACE['FRAME_MAX_BYTES'] is "
                f"{self._config.frame_max_bytes}"
            )
            self._frame([rejected(events[0], reason)], frames)

    # --- sending

    def _dispatch(self, frames: list[Item]) -> None:
        """Send frames, or put them behind those that wait already."""
        if frames:
            if self._backlog.is_empty and self._breaker.allows():
                frames = self._send(frames)
            if frames:
                self._backlog.append(frames)
        while not self._backlog.is_empty and self._breaker.allows():
            batch = self._backlog.peek(_SEND_MAX_FRAMES, _SEND_MAX_BYTES)
            if not batch or self._send(batch):
                break
            self._backlog.commit(len(batch))

    def _send(self, frames: list[Item]) -> list[Item]:
        """Send frames; return those that may not have arrived, in order."""
        ordered = sorted(frames, key=_SHARD)  # stable: the order within a shard stays
        sent = 0
        for shard, group in groupby(ordered, key=_SHARD):
            batch = [frame for _, frame in group]
            try:
                for some in _chunks(batch):
                    self._send_to(shard, some)
                    sent += len(some)
            except StreamUnavailable as error:
                self._breaker.failed()
                self._warn(error)
                return ordered[sent:]
        if self._breaker.is_open:
            self._may_have_lost_memory = True
        self._breaker.succeeded()
        self._sent_at = time.monotonic()
        return []

    def _send_to(self, shard: int, frames: list[bytes]) -> None:
        try:
            self._note_memory(shard, self._stream.send(shard, frames))
        except StreamFull:
            if self._config.overflow == "drop_newest":
                self._drop_newest(shard, frames)
                return
            if self._config.overflow == "block":
                raise
            self._stream.make_room(shard, self._producer.stubs)
            self._note_memory(shard, self._stream.send(shard, frames))

    def _drop_newest(self, shard: int, frames: list[bytes]) -> None:
        """Drop the events, but not the counts: frames without events go through."""
        counting = [frame for frame in frames if not decode_header(frame).events]
        full = [frame for frame in frames if decode_header(frame).events]
        self._count_drops(ledger.DROPPED_STREAM_FULL, full)
        if counting:
            self._note_memory(shard, self._stream.send(shard, counting, ignores_bound=True))

    def _note_memory(self, shard: int, token: str) -> None:
        if self._memories.setdefault(shard, token) != token:
            # All shards live in one memory, and only this one has just heard from us.
            self._may_have_lost_memory = True
        self._memories[shard] = token

    def _look_after_backlog(self) -> None:
        """Now and then, send what dead processes have left."""
        now = time.monotonic()
        if self._breaker.is_open or now - self._adopted_at < _ADOPT_SECONDS:
            return
        self._adopted_at = now
        self._backlog.adopt_orphans()

    def _look_for_lost_memory(self) -> None:
        """Make a loss visible even when nothing is recorded any more.

        The drain sees that frames are missing when the next one comes. If Redis forgot what
        we sent last and we stay silent, none would: so ask, and speak up.
        """
        now = time.monotonic()
        is_due = bool(self._memories) and now - self._sent_at >= _MEMORY_CHECK_SECONDS
        if is_due and self._breaker.allows():
            self._sent_at = now
            self._check_memory()
        if self._may_have_lost_memory:
            self._may_have_lost_memory = False
            shards = self._producer.shards_in_use
            self._dispatch([self._producer.counting_frame(shard) for shard in shards])

    def _check_memory(self) -> None:
        try:
            for shard in self._producer.shards_in_use:
                self._note_memory(shard, self._stream.memory_token(shard))
        except StreamUnavailable:
            self._breaker.failed()

    # --- counting

    def _on_recorder_error(self, measurement: str, error: BaseException) -> None:
        self._buffer.count_lost(ledger.DROPPED_RECORDER_ERROR, measurement)
        now = time.monotonic()
        if now - self._warned_at > _WARN_SECONDS:
            self._warned_at = now
            logger.error(
                "a recorder of %r events failed: %s. Its events are counted as "
                "dropped:recorder_error; turn it off in TAILRACE['RECORDERS'] or report it.",
                measurement,
                error,
                exc_info=error,
            )

    def _on_spool_drop(self, frames: list[bytes]) -> None:
        self._count_drops(ledger.DROPPED_SPOOL_FULL, frames)

    def _count_drops(self, outcome: str, frames: list[bytes]) -> None:
        """Count the events of numbered frames that will never be sent."""
        own = []
        for frame in frames:
            if self._producer.is_ours(frame):
                own.append(frame)
            elif (stub := self._producer.stub(frame)) is not None:
                # Left by a process that is gone: no later frame of its would show the gap.
                self._stubs[stub.producer] = stub
        self._count_frames(outcome, own)

    def _count_frames(self, outcome: str, frames: list[bytes]) -> None:
        for frame in frames:
            for measurement, amount in decode_header(frame).events.items():
                self._producer.count(outcome, measurement, amount)

    def _warn(self, error: StreamUnavailable) -> None:
        now = time.monotonic()
        if now - self._warned_at > _WARN_SECONDS:
            self._warned_at = now
            logger.warning("%s Events wait in %s.", error, self._config.spool_path)


def _chunks(frames: list[bytes]) -> list[list[bytes]]:
    """Split frames so that no command pipeline grows beyond a few megabytes."""
    chunks: list[list[bytes]] = [[]]
    size = 0
    for frame in frames:
        if chunks[-1] and (size + len(frame) > _SEND_MAX_BYTES or len(chunks[-1]) >= 64):
            chunks.append([])
            size = 0
        chunks[-1].append(frame)
        size += len(frame)
    return chunks
