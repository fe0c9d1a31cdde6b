"""A stream in memory: what Redis is to the drain, for tests that need no server.

The same public methods as :class:`tailrace.pipeline.stream.Stream`; one test runs over both.
Beyond them, it can lose its memory, go back to a snapshot, and have its leases expire.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tailrace.pipeline.config import Config
from tailrace.pipeline.errors import StreamFull
from tailrace.pipeline.stream import START, Entry, ShardState, id_key

_ENTRY_OVERHEAD_BYTES = 64
_TRIM_SHARE = 0.1


class _Shard:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.last_id = START
        self.epoch = ""
        self.trimmed = START
        self.positions: dict[str, str] = {}
        self.leases: dict[str, tuple[str, float]] = {}

    def copy(self) -> _Shard:
        other = _Shard()
        other.__dict__.update(
            self.__dict__,
            entries=list(self.entries),
            positions=dict(self.positions),
            leases=dict(self.leases),
        )
        return other


class Snapshot(NamedTuple):
    """What a stream held at one moment."""

    shards: dict[int, _Shard]


class MemoryStream:
    """The shards of a Redis that is not there. Shared by threads, not by processes."""

    def __init__(self, config: Config, timeout_seconds: float = 0.0) -> None:
        """Start empty.

        Args:
            config: Gives the bounds.
            timeout_seconds: Not used; here so that both streams are made alike.
        """
        self._max_bytes = config.stream_max_bytes // config.shards
        self._token = secrets.token_hex(8)
        self._shards: dict[int, _Shard] = {}
        self._clock_offset_ms = self._restarts = self._newest_ms = 0
        self._lock = threading.RLock()

    # --- for the flusher

    def send(self, shard: int, frames: Sequence[bytes], ignores_bound: bool = False) -> str:
        """Append frames; return :meth:`memory_token`.

        Raises:
            StreamFull: the shard has no room.
        """
        with self._lock:
            known = self._shard(shard)
            if not ignores_bound and self.memory_bytes(shard) > self._max_bytes:
                raise StreamFull(f"shard {shard} holds {self.memory_bytes(shard)} bytes")
            for frame in frames:
                known.last_id = self._new_id(known)
                known.entries.append(Entry(known.last_id, bytes(frame)))
            return self.memory_token(shard)

    def make_room(
        self, shard: int, stubs_of: Callable[[list[bytes]], list[bytes]] = lambda frames: []
    ) -> None:
        """Cut the oldest entries off until a tenth of the shard's share is free."""
        cut_off = self._cut(shard)
        if stubs := stubs_of(cut_off):
            self.send(shard, stubs, ignores_bound=True)

    def _cut(self, shard: int) -> list[bytes]:
        frames: list[bytes] = []
        with self._lock:
            known = self._shard(shard)
            enough = self._max_bytes * (1 - _TRIM_SHARE)
            while known.entries:
                cut = math.ceil(len(known.entries) * _TRIM_SHARE)
                known.trimmed = known.entries[cut - 1].id
                frames += [entry.frame for entry in known.entries[:cut]]
                del known.entries[:cut]
                if self.memory_bytes(shard) <= enough:
                    break
        return frames

    def memory_token(self, shard: int) -> str:
        """Return a token; another one than last time: the stream may have lost something."""
        with self._lock:
            return f"{self._epoch(shard)}/{self._restarts}"

    # --- for the drain

    def state(self, shard: int) -> ShardState:
        """Return what there is to know about a shard before reading it."""
        with self._lock:
            known = self._shard(shard)
            return ShardState(
                self._epoch(shard), known.last_id, known.trimmed, bool(known.positions)
            )

    def read(self, shard: int, after: str, count: int) -> list[Entry]:
        """Return up to ``count`` entries that come after the position ``after``."""
        with self._lock:
            entries = self._shard(shard).entries
            start = bisect_right(entries, id_key(after), key=_entry_key)
            return entries[start : start + count]

    def publish_position(self, shard: int, alias: str, position: str) -> None:
        """Tell the other backends how far ``alias`` has come."""
        with self._lock:
            self._shard(shard).positions[alias] = position

    def trim(self, shard: int, aliases: Sequence[str]) -> int:
        """Remove what every one of ``aliases`` has committed; return how many entries."""
        with self._lock:
            known = self._shard(shard)
            positions = [known.positions.get(alias) for alias in aliases]
            reached = [position for position in positions if position is not None]
            if not reached or len(reached) < len(positions):
                return 0
            oldest = min(id_key(position) for position in reached)
            end = bisect_left(known.entries, (oldest[0], oldest[1] + 1), key=_entry_key)
            del known.entries[:end]
            return end

    @contextlib.contextmanager
    def lease(self, shard: int, alias: str, seconds: float) -> Iterator[bool]:
        """Try to be the only one who drains ``shard`` into ``alias``; yields whether we are."""
        mine = f"{self._token}:{os.getpid()}"
        with self._lock:
            is_ours = not self.leased(shard, alias)
            if is_ours:
                self._shard(shard).leases[alias] = (mine, time.monotonic() + seconds)
        try:
            yield is_ours
        finally:
            if is_ours:
                with self._lock:
                    self._shard(shard).leases.pop(alias, None)

    def renew_lease(self, shard: int, alias: str, seconds: float) -> None:
        """Keep the lease for another ``seconds``."""
        with self._lock:
            leases = self._shard(shard).leases
            if self.leased(shard, alias):
                leases[alias] = (leases[alias][0], time.monotonic() + seconds)

    # --- for status and checks

    def leased(self, shard: int, alias: str) -> bool:
        """Return whether somebody drains ``shard`` into ``alias`` now."""
        with self._lock:
            lease = self._shard(shard).leases.get(alias)
            return lease is not None and lease[1] > time.monotonic()

    def length(self, shard: int) -> int:
        """Return the number of entries in a shard."""
        with self._lock:
            return len(self._shard(shard).entries)

    def memory_bytes(self, shard: int) -> int:
        """Return roughly the memory that a shard would take in Redis."""
        with self._lock:
            entries = self._shard(shard).entries
            return sum(len(entry.frame) + _ENTRY_OVERHEAD_BYTES for entry in entries)

    def time(self) -> float:
        """Return the stream's clock, in seconds since 1970; entry ids are made by it."""
        return (time.time_ns() // 1000 + self._clock_offset_ms * 1000) / 1e6

    def server_info(self) -> dict[str, Any]:
        """Return what the server says of itself, as far as there is one."""
        return {"redis_version": "0.0.0", "server_name": "memory"}

    def close(self) -> None:
        """Do nothing: there is no connection."""

    # --- for tests: what can happen to a Redis

    def lose_memory(self, clock_back_ms: int = 0) -> None:
        """Forget everything, as a Redis does that is killed and restarted empty.

        Args:
            clock_back_ms: By how much its clock is behind afterwards.
        """
        with self._lock:
            self._shards.clear()
            self._restarts += 1
            self._clock_offset_ms -= clock_back_ms

    def snapshot(self) -> Snapshot:
        """Return what the stream holds now."""
        with self._lock:
            return Snapshot({number: shard.copy() for number, shard in self._shards.items()})

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot, as a Redis does that is restarted from an older file.

        A restart takes longer than a millisecond, so no entry id is given twice. (One whose clock
        was set back meanwhile, too, can give ids again; nobody could tell those apart.)
        """
        with self._lock:
            self._restarts += 1
            ahead_ms = self._newest_ms + 2 - time.time_ns() // 1_000_000
            self._clock_offset_ms = max(self._clock_offset_ms + 2, ahead_ms)
            self._shards = {number: shard.copy() for number, shard in snapshot.shards.items()}

    def expire_leases(self) -> None:
        """Let every lease run out, as when its holder is silent for too long."""
        with self._lock:
            for shard in self._shards.values():
                shard.leases.clear()

    # --- inside

    def _shard(self, number: int) -> _Shard:
        return self._shards.setdefault(number, _Shard())

    def _epoch(self, shard: int) -> str:
        """Give a new memory a token that none had before."""
        known = self._shard(shard)
        known.epoch = known.epoch or secrets.token_hex(8)
        return known.epoch

    def _new_id(self, shard: _Shard) -> str:
        now_ms = time.time_ns() // 1_000_000 + self._clock_offset_ms
        last_ms, number = id_key(shard.last_id)
        self._newest_ms = max(self._newest_ms, now_ms, last_ms)
        return f"{now_ms}-0" if now_ms > last_ms else f"{last_ms}-{number + 1}"


def _entry_key(entry: Entry) -> tuple[int, int]:
    return id_key(entry.id)
