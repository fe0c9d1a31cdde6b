"""The buffer: what a process has recorded and not sent yet."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any

from .config import Config
from .event import INVALID_MEASUREMENT, MEASUREMENT_MAX_CHARS, MEASUREMENTS_MAX
from .ledger import DROPPED_BUFFER_FULL

_YIELD_SHARE = 0.5


class Buffer:
    """A bounded queue that many threads append to and one flusher takes from.

    ``deque.append`` and ``popleft`` are atomic, so the usual path takes no lock. What goes
    no further is counted by measurement, under a lock, off the usual path.
    """

    def __init__(self, config: Config) -> None:
        self._events: deque[tuple[Any, ...]] = deque()
        self._overflow = config.overflow
        self._block_seconds = config.block_seconds
        self._max_events = config.buffer_max_events
        self._max_bytes = config.buffer_max_bytes
        self._wake_at = config.frame_max_events
        self._lock = threading.Lock()
        self._lost: dict[str, Counter[str]] = {}
        self.wake = threading.Event()
        """Set when there is enough for a frame, so that the flusher need not wait longer."""
        self.set_event_cost(0)

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: tuple[Any, ...]) -> None:
        """Add an event, or apply the overflow policy. Never raises."""
        events = self._events
        length = len(events)
        if length >= self._yield_at:
            self._make_room(event)
            return
        events.append(event)
        if length == self._wake_at:
            self.wake.set()

    def take(self, count: int) -> list[tuple[Any, ...]]:
        """Remove and return up to ``count`` of the oldest events."""
        popleft = self._events.popleft
        taken = []
        try:
            for _ in range(count):
                taken.append(popleft())
        except IndexError:  # the deque ran empty
            pass
        return taken

    def count_lost(self, outcome: str, measurement: Any) -> None:
        """Count an event that goes no further.

        Args:
            outcome: Why; see :mod:`tailrace.pipeline.ledger`.
            measurement: Its measurement, as the caller gave it.
        """
        with self._lock:
            counts = self._lost.setdefault(outcome, Counter())
            counts[_bounded_name(counts, measurement)] += 1

    def lost(self) -> dict[str, dict[str, int]]:
        """Return the running totals of :meth:`count_lost`."""
        with self._lock:
            return {outcome: dict(counts) for outcome, counts in self._lost.items()}

    def set_event_cost(self, event_bytes: float) -> None:
        """Fit the bound in events to the bound in bytes.

        Args:
            event_bytes: What an event costs in memory, by the flusher's latest measurement.
        """
        by_bytes = int(self._max_bytes / event_bytes) if event_bytes else self._max_events
        self.capacity = max(1, min(self._max_events, by_bytes))
        self._yield_at = max(1, int(self.capacity * _YIELD_SHARE))

    def _make_room(self, event: tuple[Any, ...]) -> None:
        """Append to a buffer that is half full or more.

        Giving up the interpreter lock for a moment lets the flusher's thread run. Without
        it, a loop that does nothing but record fills the buffer faster than it empties, and
        loses events that a few milliseconds would have saved.
        """
        self.wake.set()
        time.sleep(0)
        if len(self._events) >= self.capacity and not self._has_room_in_time():
            self._drop(event)
            return
        self._events.append(event)

    def _has_room_in_time(self) -> bool:
        if self._overflow != "block":
            return False
        deadline = time.monotonic() + self._block_seconds
        while len(self._events) >= self.capacity:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)
        return True

    def _drop(self, event: tuple[Any, ...]) -> None:
        victim = event
        if self._overflow == "drop_oldest":
            try:
                victim = self._events.popleft()
            except IndexError:  # the flusher was faster: there is room after all
                self._events.append(event)
                return
            self._events.append(event)
        self.count_lost(DROPPED_BUFFER_FULL, victim[0])


def _bounded_name(counts: Counter[str], name: Any) -> str:
    """Return the measurement to count under; names come from callers, so they are bounded."""
    if not isinstance(name, str) or not 0 < len(name) <= MEASUREMENT_MAX_CHARS:
        return INVALID_MEASUREMENT
    if name not in counts and len(counts) >= MEASUREMENTS_MAX:
        return INVALID_MEASUREMENT
    return name.encode("utf-8", "replace").decode()
