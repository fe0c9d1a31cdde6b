"""Writing a batch: encode, make each point its own, send, and find out what is refused."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
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
    places_of,
    replayed_identity,
    set_identity,
)
from .influx_layout import ID_FIELD, TRACE_FIELD
from .influx_names import InfluxNames, Register
from .line_protocol import Encoded, LineEncoder, Series, Unencodable, check_time, escape_text

REFUSED_KEPT = 10_000
"""Ids of refused events that are remembered, so that the server is asked about them once."""
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_PRODUCER_BYTES = 10


class Books(Register, Protocol):
    """Where that is kept which identities follow from."""

    is_replay: bool
    numbers: dict[bytes, int]

    def places(self, wanted: Collection[Place]) -> Mapping[Place, tuple[int, Lanes]]: ...


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
    ) -> None:
        """Prepare; nothing is connected to yet.

        Args:
            alias: The backend's, for messages.
            api: The server.
            parameters: Organisation and bucket.
            values_max: How many values a tag may have.
            lines_max: How many lines a request has at most.
            gzip_level: 1 to 9; 0 sends bodies as they are.
        """
        self._alias = alias
        self._api = api
        self._parameters = {**parameters, "precision": "ns"}
        self._values_max = values_max
        self._lines_max = lines_max
        self._gzip_level = gzip_level
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
        identities = _identities(books, events, encoded)
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


def _identities(books: Books, events: Sequence[Event], encoded: Encoded) -> list[Identity | None]:
    good = [event for event, series in zip(events, encoded.series, strict=True) if series]
    places = books.places(places_of(good))
    identities: list[Identity | None] = [None] * len(events)
    for at, (event, series) in enumerate(zip(events, encoded.series, strict=True)):
        if series is None:
            continue
        time_ns = event.time_ns
        slot, lanes = places[event.id[:_PRODUCER_BYTES], time_ns // 1000 // HOUR_US]
        try:
            check_time(time_ns)
        except Unencodable as error:
            encoded.reasons[at] = str(error)
            continue
        if books.is_replay:
            identities[at] = replayed_identity(event, slot)
        elif is_measured(time_ns):
            identities[at] = measured_identity(event, slot)
        else:
            number = books.numbers.get(event.id)
            if number is None:
                number = books.numbers[event.id] = lanes.number(series.lane, time_ns // 1000)
            identities[at] = set_identity(event, slot, number)
    return identities


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
