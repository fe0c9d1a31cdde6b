"""Writing a batch: encode, make each point its own, send, and find out what is refused."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

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
    measured_time_ns,
    place_of,
    places_of,
    replayed_identity,
    set_identity,
    slot_tag,
)
from .influx_layout import ID_FIELD, TRACE_FIELD
from .influx_names import InfluxNames, Register
from .line_protocol import (
    TIME_MAX_NS,
    TIME_MIN_NS,
    Encoded,
    LineEncoder,
    escape_text,
)

REFUSED_KEPT = 10_000
"""Ids of refused events that are remembered, so that the server is asked about them once."""
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_PRODUCER_BYTES = 10
REQUESTS_AT_ONCE = 3
"""How many parts of a batch are on their way at once; the server takes them side by side."""
_NO_IDENTITY = "", 0


class Books(Register, Protocol):
    """Where that is kept which identities follow from."""

    is_replay: bool
    identities: dict[bytes, Identity]

    def places(self, wanted: Collection[Place]) -> Mapping[Place, tuple[int, Lanes]]: ...


LookUp = Callable[[Sequence[Event]], Mapping[bytes, tuple[str, int]]]


Line = tuple[int, str]
"""An event's place among those that were to be written, and its line."""


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
        if len(events) <= self._lines_max:
            self.send(self.lines(books, events), events)
            return
        with ThreadPoolExecutor(REQUESTS_AT_ONCE, "tailrace-influx") as pool:
            self._write_in_parts(pool, books, events)

    def _write_in_parts(
        self, pool: ThreadPoolExecutor, books: Books, events: Sequence[Event]
    ) -> None:
        """Encode a part while the server takes the parts before it."""
        reasons: dict[int, str] = {}
        sent: list[tuple[int, Future[dict[int, str]]]] = []
        for start in range(0, len(events), self._lines_max):
            try:
                lines = self.lines(books, events[start : start + self._lines_max])
            except RejectedEvents as error:
                # Nothing of this part is sent; its good ones come again without the others.
                reasons.update((start + at, reason) for at, reason in error.reasons.items())
            else:
                sent.append((start, pool.submit(self._send, lines)))
        for start, part in sent:
            reasons.update((start + at, reason) for at, reason in part.result().items())
        self._finish(reasons, events)

    def send(self, lines: Sequence[Line], events: Sequence[Event]) -> None:
        """Send what :meth:`lines` made of these events; raises as :meth:`write`."""
        self._finish(self._send(lines), events)

    def _finish(self, reasons: Mapping[int, str], events: Sequence[Event]) -> None:
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
        parts = zip(events, encoded.series, encoded.fields, identities, strict=True)
        return [
            (at, _line(event, series.text, fields, tags, time_ns))
            for at, (event, series, fields, (tags, time_ns)) in enumerate(parts)
            if series is not None
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
    ) -> list[tuple[str, int]]:
        """Return the reserved tags and the time of each event's line."""
        good = [event for event, series in zip(events, encoded.series, strict=True) if series]
        places = books.places(places_of(good))
        self._find_old(books, good, places)
        identities = [_NO_IDENTITY] * len(events)
        known, is_replay = books.identities, books.is_replay
        tags_of = {place: slot_tag(slot) for place, (slot, _) in places.items()}
        for at, (event, series) in enumerate(zip(events, encoded.series, strict=True)):
            if series is None:
                continue
            time_ns = event.time_ns
            if not TIME_MIN_NS <= time_ns <= TIME_MAX_NS:
                encoded.reasons[at] = "its time is outside of what InfluxDB can store"
                continue
            place = event.id[:_PRODUCER_BYTES], time_ns // 1000 // HOUR_US
            if time_ns % 100 and not is_replay:  # is_measured(), which most events are
                identities[at] = tags_of[place], measured_time_ns(event)
                continue
            slot, lanes = places[place]
            if is_replay:
                identity = replayed_identity(event, slot)
            elif event.id in known:
                identity = known[event.id]
            else:
                number = lanes.number(event, series.lane)
                identity = known[event.id] = set_identity(event, slot, number)
            identities[at] = identity.tags, identity.time_ns
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
            return {lines[0][0]: str(error)} if len(lines) == 1 else self._send_halves(lines)
        except (Malformed, PartlyRefused) as error:
            if isinstance(error, PartlyRefused):
                fault("influx_partly_refused")
            # The server does not say which, or says so in prose.
            return {lines[0][0]: str(error)} if len(lines) == 1 else self._send_halves(lines)
        return {}

    def _send_halves(self, lines: Sequence[Line]) -> dict[int, str]:
        middle = len(lines) // 2
        return self._send(lines[:middle]) | self._send(lines[middle:])

    def _post(self, lines: Sequence[Line]) -> None:
        body = "\n".join([text for _, text in lines]).encode()
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self._gzip_level:
            packer = zlib.compressobj(self._gzip_level, zlib.DEFLATED, _GZIP_WINDOW_BITS)
            body = packer.compress(body) + packer.flush()
            headers["Content-Encoding"] = "gzip"
        self._api.call("POST", WRITE_PATH, self._parameters, body, headers)


def _line(event: Event, series: str, fields: str, tags: str, time_ns: int) -> str:
    if event.trace_id:
        fields += f'{"," if fields else ""}{TRACE_FIELD}="{escape_text(event.trace_id)}"'
    comma = "," if fields else ""
    return f'{series}{tags} {fields}{comma}{ID_FIELD}="{event.id.hex()}" {time_ns}'


def _rejected(reasons: Mapping[int, str]) -> RejectedEvents:
    first = next(iter(reasons.values()))
    return RejectedEvents(f"{len(reasons)} events refused; the first: {first}", reasons)
