"""Which point an event is: always the same one, and nobody else's.

InfluxDB takes a point with the measurement, tags and timestamp of another for the same point.
That is what makes a replay harmless, and what would make one event of two that happen to be
alike. The reasons for all of this, and what it costs, are in
docs/decisions/0004-influx-identity.md; in short, a point differs from that of any other event in

- its measurement, its tags, its microsecond, or
- **the slot**: the number that its producer has among those with events in the same hour. It
  is given once, from the books, and kept. Slot 0 is not written, or
- **the last three digits** of the timestamp, or
- **the burst**, a tag that is only there where those digits have run out.

Digits of events whose time a clock measured come from the number that the event got at capture:
nobody records a hundred events in one microsecond. Times that somebody set, such as a reading's,
may repeat as often as they like. Those are told apart by :class:`Lanes`.

Copies from another storage come in whatever order, with ids and times that may have lost what
a producer meant by them. All of them have one slot an hour, for themselves, with lanes for all.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tailrace.pipeline.event import Event

_HOUR_NS = 3_600 * 10**9
PRODUCER_BYTES = 10
_NUMBER_MASK = 2**48 - 1
_SET_DIGITS = 900
"""Digits 0 to 899 are for times that were set, 900 to 999 for times that were measured."""
_MEASURED_DIGITS = 1000 - _SET_DIGITS
_LANES = 4096

Place = tuple[bytes, int]
"""A producer, and an hour of event time (hours since 1970)."""
COPIES = bytes(PRODUCER_BYTES)
"""Stands for the producer of all copies; those of processes are random."""


def is_measured(time_ns: int) -> bool:
    """Return whether a clock measured a time, by its digits; says no in doubt.

    A datetime has whole microseconds, and coarse clocks have whole steps of 100 ns. Of the
    times of a fine clock, one in a hundred looks like that; it is handled as if it were set.
    """
    return time_ns % 100 != 0


class Identity(NamedTuple):
    """What is added to an event to make its point its own."""

    slot: int
    burst: str
    time_ns: int

    @property
    def tags(self) -> str:
        """The reserved tags as they stand in a line."""
        slot = slot_tag(self.slot)
        return f"{slot},tailrace.burst={self.burst}" if self.burst else slot


class _State(msgspec.Struct, array_like=True):
    latest: dict[int, int]
    used: dict[int, int]
    last: int
    is_doubtful: bool = False


class Lanes:
    """Numbers for events of one place whose time was set.

    A series (measurement and tags) has a lane. An event that is later than all of its lane
    before it is the first of its microsecond, and gets number 0. Any other may have been
    preceded by one of the same microsecond, and gets a number that its lane never gave before.
    Readings arrive in order for the most part, so that few numbers are used up.

    The numbers follow from the events and their order, which a stream keeps; and a lane is
    stored with the checkpoint. So a drain that starts again gives the same events the same
    numbers, with whatever batches.

    Who writes events in another order than that of their stream has to look first whether they are
    there: :meth:`may_be_old`. So has everybody after :meth:`doubt`: frames are missing, and what
    came after them may have been written while they were there.
    """

    __slots__ = ("_is_doubtful", "_last", "_latest", "_used", "is_changed")

    def __init__(self, state: bytes = b"") -> None:
        """Go on from what :meth:`state` gave."""
        self.is_changed = False
        self._latest: dict[int, int] = {}
        self._used: dict[int, int] = {}
        self._last = -1
        self._is_doubtful = False
        if state:
            kept = _decoder.decode(zlib.decompress(state))
            self._latest, self._used, self._last = kept.latest, kept.used, kept.last
            self._is_doubtful = kept.is_doubtful

    def doubt(self) -> None:
        """Have every further event be looked for; a place is an hour's."""
        self._is_doubtful = self.is_changed = True

    def may_be_old(self, event: Event) -> bool:
        """Return whether an event may have been given a number before.

        A producer numbers its events, and a drain gets them in that order.
        """
        return self._is_doubtful or event_number(event) <= self._last

    def number(self, event: Event, lane: int) -> int:
        """Return the number for the next event.

        Args:
            event: Of this place, and with a time that was set.
            lane: Goes with its series. Series may share one.
        """
        lane, time_us = lane % _LANES, event.time_ns // 1000
        self.is_changed = True
        self._last = max(self._last, event_number(event))
        if time_us > self._latest.get(lane, time_us - 1):
            self._latest[lane] = time_us
            return 0
        used = self._used[lane] = self._used.get(lane, 0) + 1
        return used

    def learn(self, event: Event, lane: int, identity: Identity) -> None:
        """Take note of a number that an event was given by somebody whose lanes are lost.

        Args:
            event: Of this place, and with a time that was set.
            lane: Goes with its series.
            identity: What it was stored as.
        """
        if identity.burst.startswith("r"):
            return  # a dead letter's own
        number = int(identity.burst or 0) * _SET_DIGITS + identity.time_ns % 1000
        lane, time_us = lane % _LANES, event.time_ns // 1000
        self.is_changed = True
        self._last = max(self._last, event_number(event))
        self._latest[lane] = max(self._latest.get(lane, time_us), time_us)
        self._used[lane] = max(self._used.get(lane, 0), number)

    def state(self) -> bytes:
        """Return what there is to keep."""
        kept = _State(self._latest, self._used, self._last, self._is_doubtful)
        return zlib.compress(_encoder.encode(kept), 1)


def event_number(event: Event) -> int:
    """Return the number that an event got from its producer."""
    return int.from_bytes(event.id[PRODUCER_BYTES:], "big")


def lane_of(series: str) -> int:
    """Return the number that goes with a series (a line up to its fields)."""
    return zlib.crc32(series.encode())


def slot_tag(slot: int) -> str:
    """Return a slot as it stands in a line."""
    return f",tailrace.slot={slot}" if slot else ""


def measured_times_ns(ids: Sequence[bytes], times_ns: Sequence[int]) -> list[int]:
    """Return the points' times of events whose times a clock measured.

    Args:
        ids: The events' ids, 16 bytes each.
        times_ns: The events' times.
    """
    # The last 8 bytes of each id, which end in its number.
    words = struct.unpack(f">{2 * len(ids)}Q", b"".join(ids))[1::2]
    return [
        time_ns - time_ns % 1000 + _SET_DIGITS + (word & _NUMBER_MASK) % _MEASURED_DIGITS
        for time_ns, word in zip(times_ns, words, strict=True)
    ]


def set_identity(event: Event, slot: int, number: int) -> Identity:
    """Return the identity of an event whose time was set, with its number of its lane."""
    burst, digits = divmod(number, _SET_DIGITS)
    return Identity(slot, str(burst) if burst else "", _microsecond(event) + digits)


def replayed_identity(event: Event, slot: int) -> Identity:
    """Return the identity of an event that was a dead letter.

    Its lane has gone on since. Dead letters are few, so that they can have bursts of their own.
    """
    burst, digits = divmod(event_number(event), _SET_DIGITS)
    return Identity(slot, f"r{burst}", _microsecond(event) + digits)


def places_of(ids: Sequence[bytes], times_ns: Sequence[int]) -> Sequence[Place]:
    """Return whose slot each event's point has; there must be one event."""
    first, last = min(times_ns) // _HOUR_NS, max(times_ns) // _HOUR_NS
    if first == last:
        return [(own[:PRODUCER_BYTES], first) for own in ids]
    return [
        (own[:PRODUCER_BYTES], time_ns // _HOUR_NS)
        for own, time_ns in zip(ids, times_ns, strict=True)
    ]


def copied_places(times_ns: Sequence[int]) -> Sequence[Place]:
    """Return the places of copies."""
    return [(COPIES, time_ns // _HOUR_NS) for time_ns in times_ns]


def _microsecond(event: Event) -> int:
    return event.time_ns // 1000 * 1000


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_State)
