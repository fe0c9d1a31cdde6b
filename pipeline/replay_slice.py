"""What one transaction of a replay does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from . import ledger
from .codec import FrameHeader, decode_events, decode_header
from .dead_letter import DeadLetter, write_or_reject
from .errors import FrameError
from .event import Event
from .ledger import Bookings, HighWater, minute_of
from .parked import ParkedLetter

_LOST = (ledger.DROPPED_REDIS_LOST, ledger.DROPPED_STREAM_TRIMMED)
"""What the drain books events as whose frames it never saw."""


class _Impossible(Exception):
    """The letter cannot be replayed as it is; its text is for the person who tries."""


class _Opened(NamedTuple):
    """A letter's events, and what the ledger has them booked as."""

    id: int
    events: list[Event]
    minute: int
    sources: Mapping[str, str]
    """Outcome that the events are booked as now, by measurement; nothing if not at all."""
    stays_if_refused: bool = True
    """Whether it stays one letter when the storage refuses all of it."""
    arrival: tuple[FrameHeader, HighWater] | None = None
    """A frame that is booked only now, and its producer's mark before it."""


class Slice:
    """Some letters of one shard, in one transaction."""

    def __init__(
        self, letters: Sequence[ParkedLetter], tx: Any, accepts: Callable[[str], bool]
    ) -> None:
        """Take the letters as the transaction has read them.

        Args:
            letters: Those that still wait.
            tx: The open transaction.
            accepts: Whether a measurement belongs to the backend.
        """
        self._letters = letters
        self._tx = tx
        self._accepts = accepts
        self._opened: list[_Opened] = []
        self._reasons: dict[int, str] = {}
        self._bookings = Bookings()
        self._fresh: list[DeadLetter] = []
        self._marks: list[HighWater] = []
        self.replayed: list[int] = []
        self.refused: dict[int, str] = {}
        self.impossible: dict[int, str] = {}
        self.stored = 0
        self.split = 0

    def write(self) -> None:
        """Open the letters and write their events; find out which the storage refuses."""
        for parked in self._letters:
            try:
                self._opened.append(self._open(parked))
            except (_Impossible, FrameError) as error:
                self.impossible[parked.id] = str(error)
        events = [event for opened in self._opened for event in opened.events]
        # By identity: nothing promises that the events of two letters have different ids.
        self._reasons = {id(event): event.rejected for event in events if event.rejected}
        good = [event for event in events if id(event) not in self._reasons]
        self._reasons |= {
            id(event): reason for event, reason in write_or_reject(self._tx.write, good)
        }

    def settle(self) -> None:
        """Book what was written, and mark the letters."""
        for opened in self._opened:
            self._settle(opened)
        if self._fresh:
            self._tx.park(self._fresh)
        self._tx.book(self._bookings.amounts())
        if self._marks:
            self._tx.advance(self._tx.checkpoint, self._marks)
        self._tx.settle(self.replayed, self.refused)

    def _settle(self, opened: _Opened) -> None:
        reasons = [self._reasons.get(id(event)) for event in opened.events]
        if opened.stays_if_refused and None not in reasons:
            self.refused[opened.id] = str(reasons[0])
            return
        if opened.arrival is not None:
            header, mark = opened.arrival
            arrived = Bookings(self._accepts)
            arrived.add_frame(header, mark, ledger.DROPPED_REDIS_LOST)
            for (minute, measurement, outcome), amount in arrived.amounts().items():
                self._bookings.add(minute, measurement, outcome, amount)
            self._marks.append(mark.after(header))
        for event, reason in zip(opened.events, reasons, strict=True):
            self._settle_event(opened, event, reason)
        self.replayed.append(opened.id)

    def _settle_event(self, opened: _Opened, event: Event, reason: str | None) -> None:
        name = event.measurement
        if name in opened.sources:
            self._bookings.add(opened.minute, name, opened.sources[name], -1)
        if reason is None:
            self.stored += 1
            self._bookings.add(opened.minute, name, ledger.STORED, 1)
        else:
            self.split += 1
            self._bookings.add(opened.minute, name, ledger.DEAD_LETTERED, 1)
            self._fresh.append(DeadLetter.of_event(event, reason, opened.minute))

    # --- what is in a letter

    def _open(self, parked: ParkedLetter) -> _Opened:
        letter = parked.letter
        if letter.event is not None:
            return self._open_event(parked, letter.event)
        if letter.frame is None:
            raise _Impossible("it has no content")
        header = decode_header(letter.frame)
        events = decode_events(letter.frame, header)
        if letter.events == 0:
            return self._open_lost(parked, header, events)
        return self._open_frame(parked, events)

    def _open_event(self, parked: ParkedLetter, event: Event) -> _Opened:
        if event.rejected is not None:
            raise _Impossible(
                f"it was refused when it was captured ({event.rejected}); record it again with "
                "values that can be stored"
            )
        sources = {event.measurement: ledger.DEAD_LETTERED}
        return _Opened(parked.id, [event], parked.letter.minute, sources)

    def _open_frame(self, parked: ParkedLetter, events: list[Event]) -> _Opened:
        letter = parked.letter
        own = [event for event in events if event.measurement == letter.measurement]
        if len(own) != letter.events:
            raise _Impossible(
                f"its frame holds {len(own)} events of {letter.measurement!r}, and the ledger "
                f"has {letter.events} of them as dead-lettered"
            )
        sources = {letter.measurement: ledger.DEAD_LETTERED}
        return _Opened(parked.id, own, letter.minute, sources)

    def _open_lost(self, parked: ParkedLetter, header: FrameHeader, events: list[Event]) -> _Opened:
        """Open a frame whose header could not be read when it came, and can be now.

        An older worker parks the frames of a newer producer so. If nothing newer of its
        producer was stored since, it is as if it came now. Otherwise the gap that it left
        has been booked as a loss, and the loss is taken back.
        """
        own = [event for event in events if self._accepts(event.measurement)]
        minute = minute_of(header.created_ns)
        checkpoint = self._tx.checkpoint
        marks = self._tx.high_waters({header.producer})
        mark = marks.get(header.producer) or checkpoint.first_mark(header)
        if header.sequence > mark.sequence:
            return _Opened(parked.id, own, minute, {}, False, (header, mark))
        if any(self._tx.holds(event) for event in own):
            raise _Impossible("its events are stored: another copy of its frame came through")
        amounts = Counter(event.measurement for event in own)
        sources = {name: self._loss(name, amount) for name, amount in amounts.items()}
        return _Opened(parked.id, own, minute, sources, False)

    def _loss(self, measurement: str, amount: int) -> str:
        """Return the outcome that a gap of so many events was booked as."""
        for outcome in _LOST:
            if self._tx.booked(measurement, outcome) >= amount:
                return outcome
        raise _Impossible(
            f"the ledger of its shard misses no {amount} events of {measurement!r} that its "
            "frame would explain"
        )
