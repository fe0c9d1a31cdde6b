"""Writing a batch: encode, make each point its own, send, and find out what is refused."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from tailrace.backends.line_protocol import TIME_MAX_NS, TIME_MIN_NS, LineEncoder, Lines
from tailrace.pipeline.errors import RejectedEvents
from tailrace.pipeline.event import Event
from tailrace.pipeline.faults import fault

from .answers import Malformed, PartlyRefused, TooLarge
from .client import WRITE_PATH, InfluxApi
from .gzip_bodies import gzipped
from .marks import LookUp, Places, marks
from .names import InfluxNames, Register

REFUSED_KEPT = 10_000
"""Ids of refused events that are remembered, so that the server is asked about them once."""
REQUESTS_AT_ONCE = 3
"""How many parts of a batch are on their way at once; the server takes them side by side."""


class Books(Register, Places, Protocol):
    """The books of a transaction."""


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
            look_up: Returns what those of some events that are stored are stored as.
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

    def send(self, lines: Lines, events: Sequence[Event]) -> None:
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

    def lines(self, books: Books, events: Sequence[Event]) -> Lines:
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
        self._refuse(encoded.reasons, events)
        # Before anything is refused: whether an event is, must not change the marks of others.
        marked = marks(books, events, encoded, self._look_up)
        if encoded.reasons:
            raise _rejected(encoded.reasons)
        return encoded.lines(marked)

    def _refuse(self, reasons: dict[int, str], events: Sequence[Event]) -> None:
        for at, event in enumerate(events):
            if not TIME_MIN_NS <= event.time_ns <= TIME_MAX_NS:
                reasons[at] = "its time is outside of what InfluxDB can store"
        if self._refused:
            known = ((at, self._refused.get(event.id)) for at, event in enumerate(events))
            reasons.update((at, reason) for at, reason in known if reason is not None)

    def _encoder(self) -> tuple[LineEncoder, InfluxNames]:
        # Per thread: who learns names waits for a lock in the database, and whoever holds that
        # lock may be another thread that waits for the encoder.
        found: tuple[LineEncoder, InfluxNames] | None = getattr(self._mine, "encoder", None)
        if found is None:
            names = InfluxNames(self._alias, self._values_max)
            found = self._mine.encoder = LineEncoder(names), names
        return found

    def forget_names(self) -> None:
        """Have this thread look all names up in the books again."""
        self._mine.encoder = None

    # --- requests

    def _send(self, lines: Lines) -> dict[int, str]:
        """Send lines; return the reasons of those that are refused, all others are in."""
        if not lines.texts:
            return {}
        try:
            self._post(lines.texts)
        except (TooLarge, Malformed, PartlyRefused) as error:
            if isinstance(error, PartlyRefused):
                fault("influx_partly_refused")
            if len(lines.texts) == 1:
                return {lines.places[0]: str(error)}
            # What is too large may be good; of others, the server says in prose which are bad.
            middle = len(lines.texts) // 2
            others = lines.cut(middle, len(lines.texts))
            return self._send(lines.cut(0, middle)) | self._send(others)
        return {}

    def _post(self, lines: Sequence[str]) -> None:
        body = "\n".join(lines).encode()
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self._gzip_level:
            body = gzipped(body, self._gzip_level)
            headers["Content-Encoding"] = "gzip"
        self._api.call("POST", WRITE_PATH, self._parameters, body, headers)


def _rejected(reasons: Mapping[int, str]) -> RejectedEvents:
    first = next(iter(reasons.values()))
    return RejectedEvents(f"{len(reasons)} events refused; the first: {first}", reasons)
