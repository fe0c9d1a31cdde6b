"""Writing a batch: encode, make each point its own, send, and find out what is refused."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from tailrace.pipeline.errors import RejectedEvents
from tailrace.pipeline.event import Event
from tailrace.pipeline.faults import fault

from .influx_client import WRITE_PATH, InfluxApi, Malformed, PartlyRefused, TooLarge
from .influx_identity import (
    HOUR_US,
    Identity,
    Lanes,
    Place,
    is_measured,
    measured_identity,
    place_of,
    places_of,
    replayed_identity,
    set_identity,
)
from .influx_layout import ID_FIELD, TRACE_FIELD
from .influx_names import InfluxNames, Register
from .line_protocol import (
    TIME_MAX_NS,
    TIME_MIN_NS,
    Encoded,
    LineEncoder,
    Series,
    escape_text,
)

REFUSED_KEPT = 10_000
"""Ids of refused events that are remembered, so that the server is asked about them once."""
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_PRODUCER_BYTES = 10


class Books(Register, Protocol):
    """Where that is kept which identities follow from."""

    is_replay: bool
    identities: dict[bytes, Identity]

    def places(self, wanted: Collection[Place]) -> Mapping[Place, tuple[int, Lanes]]: ...


LookUp = Callable[[Sequence[Event]], Mapping[bytes, tuple[str, int]]]


class Line(NamedTuple):
    """One event's line, and its place among the events that were to be written."""

    at: int
    text: str


class InfluxWriter:
    """Writes to one bucket. Threads share it; each has an encoder of its own."""

    def __init__(
        self,
        alias: str,
        api: InfluxApi,
        parameters: Mapping[str, str],
        *,
        values_max: int = 10_000,
        lines_max: int = 5_000,
        gzip_level: int = 1,
        look_up: LookUp,
    ) -> None:
        """Prepare; nothing is connected to yet.

        Args:
            alias: The backend's, for messages.
            api: The server.
            parameters: Organisation and bucket.
            values_max: How many values a tag may have.
            lines_max: How many lines a request has at most.
            gzip_level: 1 to 9; 0 sends bodies as they are.
            look_up: Returns the burst and time of those of some events that are stored.
        """
        self._alias = alias
        self._api = api
        self._parameters = {**parameters, "precision": "ns"}
        self._values_max = values_max
        self._lines_max = lines_max
        self._gzip_level = gzip_level
        self._look_up = look_up
        self._mine = threading.local()
        self._refused: OrderedDict[bytes, str] = OrderedDict()

    def write(self, books: Books, events: Sequence[Event]) -> None:
        """Write events.

        Args:
            books: Of the transaction that they belong to.
            events: In the order of their stream.

        Raises:
            RejectedEvents: names all that are refused. Others may be in already; writing them
                again changes nothing.
            TransientBackendError, BackendMisconfigured: nothing, part or all of it is in.
        """
        self.send(self.lines(books, events), events)

    def send(self, lines: Sequence[Line], events: Sequence[Event]) -> None:
        """Send what :meth:`lines` made of these events; raises as :meth:`write`."""
        reasons: dict[int, str] = {}
        for start in range(0, len(lines), self._lines_max):
            reasons.update(self._send(lines[start : start + self._lines_max]))
        fault("influx_written")
        if reasons:
            self._refused.update((events[at].id, reason) for at, reason in reasons.items())
            while len(self._refused) > REFUSED_KEPT:
                self._refused.popitem(last=False)
            raise _rejected(reasons)

    # --- lines

    def lines(self, books: Books, events: Sequence[Event]) -> list[Line]:
        """Return the lines of events; what identities follow from is committed when they are.

        Raises:
            RejectedEvents: some have none; names all of those.
        """
        encoder, names = self._encoder()
        names.register = books
        try:
            encoded = encoder.encode(events)
        finally:
            names.register = None
        identities = self._identities(books, events, encoded)
        if self._refused:
            known = ((at, self._refused.get(event.id)) for at, event in enumerate(events))
            encoded.reasons.update((at, reason) for at, reason in known if reason is not None)
        if encoded.reasons:
            raise _rejected(encoded.reasons)
        return [
            Line(at, _line(event, series, fields, identity))
            for at, (event, series, fields, identity) in enumerate(
                zip(events, encoded.series, encoded.fields, identities, strict=True)
            )
            if series is not None and identity is not None
        ]

    def _encoder(self) -> tuple[LineEncoder, InfluxNames]:
        # Per thread: who learns names waits for a lock in the database, and whoever holds that
        # lock may be another thread that waits for the encoder.
        found: tuple[LineEncoder, InfluxNames] | None = getattr(self._mine, "encoder", None)
        if found is None:
            names = InfluxNames(self._alias, self._values_max)
            found = self._mine.encoder = LineEncoder(names), names
        return found

    def _identities(
        self, books: Books, events: Sequence[Event], encoded: Encoded
    ) -> list[Identity | None]:
        good = [event for event, series in zip(events, encoded.series, strict=True) if series]
        places = books.places(places_of(good))
        self._find_old(books, good, places)
        identities: list[Identity | None] = [None] * len(events)
        known = books.identities
        for at, (event, series) in enumerate(zip(events, encoded.series, strict=True)):
            if series is None:
                continue
            time_ns = event.time_ns
            if not TIME_MIN_NS <= time_ns <= TIME_MAX_NS:
                encoded.reasons[at] = "its time is outside of what InfluxDB can store"
                continue
            slot, lanes = places[event.id[:_PRODUCER_BYTES], time_ns // 1000 // HOUR_US]
            if books.is_replay:
                identities[at] = replayed_identity(event, slot)
            elif is_measured(time_ns):
                identities[at] = measured_identity(event, slot)
            elif event.id in known:
                identities[at] = known[event.id]
            else:
                number = lanes.number(event, series.lane)
                identities[at] = known[event.id] = set_identity(event, slot, number)
        return identities

    def _find_old(
        self, books: Books, events: Sequence[Event], places: Mapping[Place, tuple[int, Lanes]]
    ) -> None:
        """Find the identities of events that may have been written before, in another order."""
        if books.is_replay:
            return
        doubtful = [
            event
            for event in events
            if not is_measured(event.time_ns)
            and event.id not in books.identities
            and places[place_of(event)][1].may_be_old(event)
        ]
        if not doubtful:
            return
        found = self._look_up(doubtful)
        for event in doubtful:
            if event.id in found:
                slot = places[place_of(event)][0]
                books.identities[event.id] = Identity(slot, *found[event.id])

    # --- requests

    def _send(self, lines: Sequence[Line]) -> dict[int, str]:
        """Send lines; return the reasons of those that are refused, all others are in."""
        if not lines:
            return {}
        try:
            self._post(lines)
        except TooLarge as error:
            # All of it may be good.
            return {lines[0].at: str(error)} if len(lines) == 1 else self._send_halves(lines)
        except (Malformed, PartlyRefused) as error:
            if isinstance(error, PartlyRefused):
                fault("influx_partly_refused")
            # The server does not say which, or says so in prose.
            return {lines[0].at: str(error)} if len(lines) == 1 else self._send_halves(lines)
        return {}

    def _send_halves(self, lines: Sequence[Line]) -> dict[int, str]:
        middle = len(lines) // 2
        return self._send(lines[:middle]) | self._send(lines[middle:])

    def _post(self, lines: Sequence[Line]) -> None:
        body = "\n".join([line.text for line in lines]).encode()
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self._gzip_level:
            packer = zlib.compressobj(self._gzip_level, zlib.DEFLATED, _GZIP_WINDOW_BITS)
            body = packer.compress(body) + packer.flush()
            headers["Content-Encoding"] = "gzip"
        self._api.call("POST", WRITE_PATH, self._parameters, body, headers)


def _line(event: Event, series: Series, fields: str, identity: Identity) -> str:
    own = f'{ID_FIELD}="{event.id.hex()}"'
    if event.trace_id:
        own = f'{own},{TRACE_FIELD}="{escape_text(event.trace_id)}"'
    if fields:
        own = f"{fields},{own}"
    return f"{series.text}{identity.tags} {own} {identity.time_ns}"


def _rejected(reasons: Mapping[int, str]) -> RejectedEvents:
    first = next(iter(reasons.values()))
    return RejectedEvents(f"{len(reasons)} events refused; the first: {first}", reasons)
