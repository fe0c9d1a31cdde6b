"""Counting and numbering: what makes each frame of this process accountable."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from .codec import FrameEncoder, FrameHeader, decode_header
from .errors import FrameError

logger = logging.getLogger("tailrace")

_SHARD_BYTES = 2


class Lane:
    """One producer: the frames that one process sends into one shard, numbered from 1."""

    def __init__(self, process: bytes, shard: int) -> None:
        self.shard = shard
        self.producer = process + shard.to_bytes(_SHARD_BYTES, "big")
        self.sequence = 0
        self.started_ns = time.time_ns()
        self.sent: Counter[str] = Counter()
        self.unsent: dict[str, Counter[str]] = defaultdict(Counter)

    def header(
        self, events: Mapping[str, int], tags: dict[str, str], is_last: bool = False
    ) -> FrameHeader:
        """Return the next frame's header and count its events as sent."""
        self.sequence += 1
        self.sent.update(events)
        return FrameHeader(
            producer=self.producer,
            sequence=self.sequence,
            created_ns=time.time_ns(),
            started_ns=self.started_ns,
            events=dict(events),
            sent=dict(self.sent),
            unsent={outcome: dict(counts) for outcome, counts in self.unsent.items()},
            tags=tags,
            is_last=is_last,
        )


class Producer:
    """This process's lanes, one a shard, and the totals that they report.

    Totals of what was not sent are kept for the process; what has grown since the last frame
    is reported by the lane that sends next, so that each event is reported exactly once.
    """

    def __init__(self, shards: int, tags: dict[str, str]) -> None:
        self._process = os.urandom(8)
        self._shards = shards
        self._tags = tags
        self._home = int.from_bytes(self._process, "big") % shards
        self._lanes: dict[int, Lane] = {}
        self._encoder = FrameEncoder()
        self._totals: dict[str, Counter[str]] = defaultdict(Counter)
        self._reported: dict[str, Counter[str]] = defaultdict(Counter)

    @property
    def shards_in_use(self) -> list[int]:
        """Shards that this process has sent frames to."""
        return list(self._lanes)

    def count(self, outcome: str, measurement: str, amount: int = 1) -> None:
        """Count events that are in no frame, or in none that will arrive."""
        self._totals[outcome][measurement] += amount

    def set_total(self, outcome: str, totals: Mapping[str, int]) -> None:
        """Take over running totals that are kept elsewhere."""
        self._totals[outcome] = Counter(totals)

    @property
    def has_unreported_counts(self) -> bool:
        """Whether there are counts that no frame has carried yet."""
        return any(counts != self._reported[outcome] for outcome, counts in self._totals.items())

    def payload(self, events: list[tuple[Any, ...]]) -> bytes:
        """Encode events; see :meth:`FrameEncoder.payload` for what it raises."""
        return self._encoder.payload(events)

    def frame(self, offset: int, measurements: Iterable[str], payload: bytes) -> tuple[int, bytes]:
        """Make a frame.

        Args:
            offset: Its number within this flush. A process that sends little uses its home
                shard only; one that sends much spreads over all.
            measurements: The measurement of each event.
            payload: The encoded events.

        Returns:
            The shard and the frame.
        """
        lane = self._lane((self._home + offset) % self._shards)
        self._report_on(lane)
        header = lane.header(Counter(measurements), self._tags)
        return lane.shard, self._encoder.frame(header, payload)

    def counting_frame(self, shard: int | None = None, is_last: bool = False) -> tuple[int, bytes]:
        """Make a frame without events, which brings the totals only."""
        lane = self._lane(self._home if shard is None else shard)
        self._report_on(lane)
        header = lane.header({}, self._tags, is_last)
        return lane.shard, self._encoder.frame(header, self._encoder.payload([]))

    def is_ours(self, frame: bytes) -> bool:
        """Return whether this process made a frame."""
        try:
            return decode_header(frame).producer.startswith(self._process)
        except FrameError:
            return False

    def stub(self, frame: bytes) -> FrameHeader | None:
        """Return what to send instead of a dropped frame of a process that is gone.

        The header without its events has the producer's number and totals, so the drain
        counts what is missing; if the events arrived before, it is dropped as a copy.
        """
        try:
            return msgspec.structs.replace(decode_header(frame), events={})
        except FrameError as error:  # another version's: only that version can count it
            logger.warning("dropped a frame that cannot be counted: %s", error)
            return None

    def stubs(self, frames: list[bytes]) -> list[bytes]:
        """Return what to leave where frames are cut off a stream, at most one a producer.

        A producer that has ended sends no later frame that would show the gap. One that goes
        on shows it itself, and the stub is dropped as a copy.
        """
        latest: dict[bytes, FrameHeader] = {}
        for frame in frames:
            stub = self.stub(frame)
            # A stub of an earlier cut lies behind frames that were sent after its own.
            if stub is not None and stub.sequence >= _sequence(latest.get(stub.producer)):
                latest[stub.producer] = stub
        return [self.stub_frame(stub)[1] for stub in latest.values()]

    def stub_frame(self, stub: FrameHeader) -> tuple[int, bytes]:
        """Make the frame of a :meth:`stub`."""
        shard = int.from_bytes(stub.producer[-_SHARD_BYTES:], "big")
        return shard, self._encoder.frame(stub, self._encoder.payload([]))

    def _lane(self, shard: int) -> Lane:
        lane = self._lanes.get(shard)
        if lane is None:
            lane = self._lanes[shard] = Lane(self._process, shard)
        return lane

    def _report_on(self, lane: Lane) -> None:
        for outcome, counts in self._totals.items():
            reported = self._reported[outcome]
            if counts != reported:
                lane.unsent[outcome].update(counts - reported)
                self._reported[outcome] = counts.copy()


def _sequence(header: FrameHeader | None) -> int:
    return header.sequence if header is not None else 0
