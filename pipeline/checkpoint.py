"""The committed position of one backend in one shard."""

from __future__ import annotations

import time

import msgspec

from .codec import FrameHeader
from .ledger import HighWater
from .stream import START, ShardState, id_key


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a backend has come in a shard; kept in that backend's own database."""

    shard: int
    position: str = START
    """Id of the last entry that is stored."""
    epoch: str = ""
    """Which memory of Redis the position belongs to."""
    created_ns: int = 0
    """When this backend joined others that already drained the shard; 0 for the first one."""

    @classmethod
    def first(cls, shard: int, state: ShardState) -> Checkpoint:
        """Return where a backend starts that has never drained this shard."""
        return cls(shard, created_ns=time.time_ns() if state.has_positions else 0)

    def resume_after(self, state: ShardState) -> str:
        """Return the position to read after.

        It is the committed one, unless Redis has lost its memory since: then entry ids say
        nothing (a clock behind gives new entries smaller ids), and everything is read. What
        was stored before is recognised by its producer's sequence.
        """
        has_new_memory = bool(self.epoch) and self.epoch != state.epoch
        went_back = id_key(state.last_id) < id_key(self.position)
        return START if has_new_memory or went_back else self.position

    def first_mark(self, header: FrameHeader) -> HighWater:
        """Return the high-water mark of a producer that this backend has never seen."""
        if header.sequence > 1 and header.started_ns < self.created_ns:
            return HighWater.baseline(header)
        return HighWater(header.producer)
