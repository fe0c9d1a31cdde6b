"""What could not be sent yet: the spool on disk, and memory where there is no disk."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from .config import Config
from .errors import SpoolUnavailable
from .spool import Spool

logger = logging.getLogger("tailrace")

Item = tuple[int, bytes]
"""Shard and frame."""


class Backlog:
    """A bounded queue of frames that keeps their order.

    Frames go to disk. When the disk refuses (full, read-only), they stay in memory behind
    what is on disk, within ``buffer_max_bytes``, until memory is empty again.
    """

    def __init__(self, config: Config, on_drop: Callable[[list[bytes]], None]) -> None:
        self._spool = Spool(config.spool_path, config.spool_max_bytes, config.overflow, on_drop)
        self._memory: deque[Item] = deque()
        self._memory_bytes = 0
        self._max_memory_bytes = config.buffer_max_bytes
        self._drops_oldest = config.overflow == "drop_oldest"
        self._blocks = config.overflow == "block"
        self._on_drop = on_drop
        self._has_warned = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._memory and self._spool.is_empty

    @property
    def must_wait(self) -> bool:
        """Whether the owner chose to block and there is no more room."""
        return self._blocks and self._memory_bytes >= self._max_memory_bytes // 2

    def append(self, items: Sequence[Item]) -> None:
        """Add frames at the end."""
        accepted = 0
        if not self._memory:
            try:
                accepted = self._spool.append(items)
            except SpoolUnavailable as error:
                self._warn(error)
        self._keep_in_memory(items[accepted:])

    def peek(self, max_frames: int, max_bytes: int) -> list[Item]:
        """Return the oldest frames, without removing them; none if the disk cannot be read."""
        if not self._spool.is_empty:
            try:
                return self._spool.peek(max_frames, max_bytes)
            except SpoolUnavailable as error:
                self._warn(error)
                return []
        size = 0
        items: list[Item] = []
        for item in self._memory:
            size += len(item[1])
            if items and (len(items) >= max_frames or size > max_bytes):
                break
            items.append(item)
        return items

    def commit(self, frames: int) -> None:
        """Remove the first ``frames`` of the last :meth:`peek`."""
        if not self._spool.is_empty:
            self._spool.commit(frames)
            return
        for _ in range(frames):
            self._memory_bytes -= len(self._memory.popleft()[1])

    def adopt_orphans(self) -> None:
        """Take over what processes that are gone have left on disk."""
        try:
            self._spool.adopt_orphans()
        except SpoolUnavailable as error:
            self._warn(error)

    def close(self) -> None:
        """Leave on disk what is unsent; count as dropped what only memory holds."""
        rest = list(self._memory)
        self._memory.clear()
        try:
            accepted = self._spool.append(rest) if rest else 0
        except SpoolUnavailable as error:
            self._warn(error)
            accepted = 0
        if lost := [frame for _, frame in rest[accepted:]]:
            self._on_drop(lost)
        self._spool.close()

    def after_fork_in_child(self) -> None:
        """Forget the parent's files; they are still the parent's."""
        self._memory.clear()
        self._spool.after_fork_in_child()

    def _keep_in_memory(self, items: Sequence[Item]) -> None:
        dropped = []
        for item in items:
            self._memory.append(item)
            self._memory_bytes += len(item[1])
            while self._memory_bytes > self._max_memory_bytes:
                victim = self._memory.popleft() if self._drops_oldest else self._memory.pop()
                self._memory_bytes -= len(victim[1])
                dropped.append(victim[1])
        if dropped:
            self._on_drop(dropped)

    def _warn(self, error: SpoolUnavailable) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning("%s Until then frames wait in memory while Redis is down.", error)
