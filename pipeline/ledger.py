"""The ledger: counts that must balance, so that nothing is lost in silence.

For each minute, shard and measurement::

    captured = stored + sampled_out + dropped:<reason>... + dead_lettered

and what a producer has captured but the drain has not seen yet is in flight. A producer
counts what it puts into frames (``sent``) and what it does not (``unsent``, by outcome); each
frame carries both totals since the producer started. The drain books the differences between
a frame and the last one it saw of the same producer. Frames that never came show as a gap in
``sent``: those events are booked as dropped, and become visible with the next frame.

Amounts are signed. Suppose frames 5 to 7 fall out of a full spool while frame 8, made
earlier, is still in it: frame 8 shows a gap of which its totals know nothing, so the gap is
booked as ``dropped:redis_lost``; frame 9 brings the count for ``dropped:spool_full`` and no
gap, and corrects the first booking to zero.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

import msgspec

from .codec import Counts, FrameHeader

CAPTURED = "captured"
STORED = "stored"
SAMPLED_OUT = "sampled_out"
DEAD_LETTERED = "dead_lettered"
DROPPED = "dropped:"
"""Prefix of every dropped outcome; the reason follows."""

DROPPED_BUFFER_FULL = "dropped:buffer_full"
DROPPED_SPOOL_FULL = "dropped:spool_full"
DROPPED_STREAM_FULL = "dropped:stream_full"
DROPPED_STREAM_TRIMMED = "dropped:stream_trimmed"
DROPPED_REDIS_LOST = "dropped:redis_lost"
DROPPED_RECORDER_ERROR = "dropped:recorder_error"

AFTER_FRAMING = frozenset({DROPPED_SPOOL_FULL, DROPPED_STREAM_FULL})
"""Outcomes of events that were in a numbered frame: they explain gaps in ``sent``."""

NOTE = "note:"
"""Prefix of counts that are no outcome, such as ``note:truncated``: the event went on."""

MINUTE_NS = 60 * 10**9

Key = tuple[int, str, str]
"""Minute (start, in seconds since 1970), measurement, outcome."""


class HighWater(msgspec.Struct, frozen=True):
    """What a backend has booked of one producer: the last frame's numbers."""

    producer: bytes
    sequence: int = 0
    sent: Counts = {}
    unsent: dict[str, Counts] = {}
    is_last: bool = False
    before: Counts = {}
    """What the producer had captured before this backend joined."""

    def after(self, header: FrameHeader) -> HighWater:
        """Return the high-water mark once ``header``'s frame is stored too."""
        return HighWater(
            header.producer,
            header.sequence,
            header.sent,
            header.unsent,
            header.is_last,
            self.before,
        )

    def captured(self) -> dict[str, int]:
        """Return the events captured since we answer for them, by the producer's own count."""
        captured = captured_by(self.sent, self.unsent)
        captured.subtract(self.before)
        return dict(captured)

    @classmethod
    def baseline(cls, header: FrameHeader) -> HighWater:
        """Return the mark that makes ``header``'s frame the first one we answer for.

        For a backend that joins while producers already run: what they sent before went to
        the other backends and is no loss.
        """
        sent = {m: n - header.events.get(m, 0) for m, n in header.sent.items()}
        before = dict(captured_by(sent, header.unsent))
        return cls(header.producer, header.sequence - 1, sent, header.unsent, before=before)


class Bookings:
    """Adds up what one transaction has to write into the ledger."""

    def __init__(self, accepts: Callable[[str], bool] = lambda measurement: True) -> None:
        """Start empty.

        Args:
            accepts: Whether a measurement belongs to the backend whose ledger this is.
        """
        self._accepts = accepts
        self._amounts: dict[Key, int] = defaultdict(int)

    def add(self, minute: int, measurement: str, outcome: str, amount: int) -> None:
        """Book ``amount`` events, which may be negative to correct an earlier booking."""
        if amount and self._accepts(measurement):
            self._amounts[minute, measurement, outcome] += amount

    def add_frame(self, header: FrameHeader, before: HighWater, gap_outcome: str) -> None:
        """Book a frame's captured events, and everything its totals tell since ``before``.

        Args:
            header: The frame's header.
            before: The producer's high-water mark before this frame.
            gap_outcome: What to call events whose frames never came.
        """
        minute = minute_of(header.created_ns)
        explained = self._add_unsent(minute, header.unsent, before.unsent)
        for measurement in header.sent.keys() | explained.keys():
            inside = header.events.get(measurement, 0)
            sent = header.sent.get(measurement, 0) - before.sent.get(measurement, 0)
            lost = sent - inside - explained.get(measurement, 0)
            self.add(minute, measurement, gap_outcome, lost)
            self.add(minute, measurement, CAPTURED, inside + lost)

    def _add_unsent(
        self, minute: int, now: Mapping[str, Counts], before: Mapping[str, Counts]
    ) -> dict[str, int]:
        """Book the growth of the totals; return how many of them had been in frames."""
        explained: dict[str, int] = defaultdict(int)
        for outcome, counts in now.items():
            earlier = before.get(outcome, {})
            for measurement, total in counts.items():
                grown = total - earlier.get(measurement, 0)
                self.add(minute, measurement, outcome, grown)
                if not outcome.startswith(NOTE):
                    self.add(minute, measurement, CAPTURED, grown)
                if outcome in AFTER_FRAMING:
                    explained[measurement] += grown
        return explained

    def amounts(self) -> dict[Key, int]:
        """Return what to add to the ledger, without the zeros."""
        return {key: amount for key, amount in self._amounts.items() if amount}


class Balance(msgspec.Struct, frozen=True):
    """The equation of a ledger, added up."""

    captured: int = 0
    """Booked and in flight."""
    stored: int = 0
    sampled_out: int = 0
    dead_lettered: int = 0
    dropped: dict[str, int] = {}
    """By reason, without the prefix."""
    in_flight: int = 0
    """Events in Redis that the backend has not seen yet."""

    @classmethod
    def of(cls, totals: Iterable[tuple[str, int]], in_flight: int = 0) -> Balance:
        """Add up ``(outcome, amount)`` pairs."""
        sums: dict[str, int] = defaultdict(int)
        for outcome, amount in totals:
            sums[outcome] += amount
        dropped = {
            outcome.removeprefix(DROPPED): amount
            for outcome, amount in sorted(sums.items())
            if outcome.startswith(DROPPED) and amount
        }
        return cls(
            sums[CAPTURED] + in_flight,
            sums[STORED],
            sums[SAMPLED_OUT],
            sums[DEAD_LETTERED],
            dropped,
            in_flight,
        )

    @property
    def dropped_total(self) -> int:
        """Events dropped for any reason."""
        return sum(self.dropped.values())

    @property
    def is_balanced(self) -> bool:
        """Whether every captured event is accounted for."""
        return self.captured == (
            self.stored
            + self.sampled_out
            + self.dropped_total
            + self.dead_lettered
            + self.in_flight
        )

    def line(self) -> str:
        """Return the ledger on one line."""
        balanced = "yes" if self.is_balanced else "no"
        return (
            f"ledger: captured={self.captured} stored={self.stored} "
            f"sampled_out={self.sampled_out} dropped={self.dropped_total} "
            f"dead_lettered={self.dead_lettered} in_flight={self.in_flight} balanced={balanced}"
        )


def captured_by(sent: Mapping[str, int], unsent: Mapping[str, Mapping[str, int]]) -> Counter[str]:
    """Return how many events a producer captured, by measurement and its own totals."""
    captured = Counter(sent)
    for outcome, counts in unsent.items():
        if not outcome.startswith(NOTE) and outcome not in AFTER_FRAMING:
            captured.update(counts)
    return captured


def minute_of(time_ns: int) -> int:
    """Return the start of the minute, in seconds since 1970."""
    return time_ns // MINUTE_NS * 60
