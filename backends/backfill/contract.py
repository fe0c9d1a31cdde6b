"""Sources and sinks on any backend, by the two contracts that every backend has.

Reading goes through :meth:`~tailrace.backends.reader.Reader.query`; writing through a
transaction of a shard that no stream has. The latter is for storages where writing an event
twice is the same as writing it once (``features.transactional_checkpoint`` is false), such as
InfluxDB. They are asked what they have of a slice, if they can be asked, and get the rest.
"""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from tailrace.backends.base import BaseBackend
from tailrace.backends.model_tables import ModelTable, table_of
from tailrace.backends.readings import reading_event
from tailrace.pipeline.backfill.contracts import (
    BACKFILL_SHARD,
    BackfillRefused,
    Estimate,
    Slice,
    StepContext,
    StepResult,
    Waiting,
)
from tailrace.pipeline.backfill.digest import Digest
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import write_or_reject
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import DEVICE_TAG, Event, ns_from_datetime
from tailrace.pipeline.faults import fault

from .rows import content_id, id_of_reading, missing_of, told
from .selection import Selection, Window, window_of, window_slice

_MICROSECOND = timedelta(microseconds=1)
_EVENTS_A_SECOND = 8_000
_BYTES_A_ROW = 100


class ReaderSource:
    """Events of a backend that can be queried."""

    def __init__(self, backend: BaseBackend, selection: Selection) -> None:
        """Keep both; ask nothing yet."""
        self._backend = backend
        self._selection = selection

    def check(self) -> None:
        try:
            is_empty = self.is_empty()
        except BackendError as error:
            raise BackfillRefused(f"the source cannot be read: {error}") from error
        if is_empty:
            raise BackfillRefused(
                f"backend {self._backend.alias!r} has no {self._selection.measurement!r} from "
                f"{self._selection.window.text}, so nothing was started"
            )

    def is_empty(self) -> bool:
        """Return whether there is nothing.

        Raises:
            BackendError: it cannot be read.
        """
        return not self._rows(self._selection.window, limit=1)

    def estimate(self) -> Estimate:
        start, end = self._selection.window
        counted = self._backend.aggregate(
            self._selection.measurement, None, "count", start=start, end=end
        )
        rows = int(counted["result"] or 0)
        return Estimate(rows=rows, bytes=rows * _BYTES_A_ROW, is_exact=True)

    def slices(self) -> Iterator[Slice]:
        """Yield windows, each found by reading the times of its events."""
        start, end = self._selection.window
        step = self._selection.slice_rows
        while True:
            rows = self._rows(Window(start, end), limit=step + 1, only_times=True)
            if not rows:
                return
            times = [row["time"] for row in rows]
            cut = _cut(times, step)
            window = Window(times[0], cut or times[-1] + _MICROSECOND)
            if cut is None and len(rows) > step:
                # All of one instant: the slice is that instant, however much there is.
                window = Window(times[0], times[0] + _MICROSECOND)
            assert window.end is not None, "just set"
            yield window_slice(window, sum(time < window.end for time in times))
            if len(rows) <= step:
                return
            start = window.end

    def read(self, slice_: Slice) -> Iterator[Sequence[Event]]:
        window = window_of(slice_)
        assert window is not None, "our own slices are windows"
        yield self.events(window)

    def events(self, window: Window) -> list[Event]:
        """Return the events of a window."""
        make = self._event_of if self._selection.model is None else self._reading_of
        return [make(row) for row in self._rows(window)]

    def _rows(
        self, window: Window, limit: int | None = None, only_times: bool = False
    ) -> list[dict[str, Any]]:
        return self._backend.query(
            self._selection.measurement,
            start=window.start,
            end=window.end,
            limit=limit,
            order="time",
            fields=[] if only_times else None,
        )

    def _event_of(self, row: dict[str, Any]) -> Event:
        event = Event(
            measurement=self._selection.measurement,
            time_ns=ns_from_datetime(row["time"]),
            tags={name: str(value) for name, value in row["tags"].items() if value is not None},
            fields=row["fields"],
            trace_id=row.get("trace_id") or None,
        )
        event.id = _id_of(row["id"]) or content_id(event)
        return event

    def _reading_of(self, row: dict[str, Any]) -> Event:
        """Return a reading; it is known by what it says, as its key differs in each storage."""
        model = self._selection.model
        event = reading_event(model, row["tags"].get(DEVICE_TAG), row["time"], row["fields"])
        event.id = id_of_reading(table_of(model), event)
        return event


class OverwritingSink:
    """Writes slices into a storage where a second copy of an event replaces the first.

    If the storage can be read (``features.keeps_events``), it gets only what it lacks, and is
    asked again afterwards. Readings are compared by what they say.
    """

    def __init__(
        self,
        backend: BaseBackend,
        selection: Selection | None = None,
        wait: Waiting | None = None,
    ) -> None:
        """Keep all; ask nothing yet.

        Args:
            backend: Where to.
            selection: Of a copy; an import has none.
            wait: Waits until the backend's own drain will not bring any of a slice's events.
        """
        self._backend = backend
        self._selection = selection
        self._wait = wait

    def check(self, estimate: Estimate) -> None:
        try:
            self._backend.create_checkpoint(Checkpoint(BACKFILL_SHARD))
            if self._selection is not None and self._backend.features.keeps_events:
                ReaderSource(self._backend, self._selection).is_empty()
        except BackendError as error:
            raise BackfillRefused(f"the target cannot be written: {error}") from error

    def estimate(self, estimate: Estimate) -> Estimate:
        return Estimate(
            rows=estimate.rows,
            bytes=estimate.bytes,
            seconds=estimate.rows / _EVENTS_A_SECOND,
            is_exact=estimate.is_exact,
            notes=estimate.notes,
        )

    def write(
        self, context: StepContext, slice_: Slice, pieces: Iterable[Sequence[Event]]
    ) -> StepResult:
        events = [event for piece in pieces for event in piece]
        reasons = [event.rejected for event in events if event.rejected is not None]
        good = self._distinct([event for event in events if event.rejected is None])
        context.alive()
        if self._wait is not None:
            self._wait(context.alive)
        window = window_of(slice_)
        there = self._there(good, window)
        missing = missing_of(good, there, self._table is not None)
        rejected = self._store(missing, window)
        if rejected:
            refused = {id(event) for event, _ in rejected}
            reasons += [reason for _, reason in rejected]
            good = [event for event in good if id(event) not in refused]
        source = Digest()
        source.add(good)
        if missing:
            self._check_there(good, window)
        written = len(missing) - len(rejected)
        return StepResult(
            rows_read=len(events),
            rows_written=written,
            rows_present=len(events) - len(reasons) - written,
            rows_refused=len(reasons),
            source_digest=str(source),
            notes=told(reasons),
        )

    @property
    def _table(self) -> ModelTable | None:
        """The table of readings; ``None`` where events are moved."""
        model = self._selection.model if self._selection is not None else None
        return None if model is None else table_of(model)

    def _distinct(self, events: list[Event]) -> list[Event]:
        """Return each event once: an id that comes twice is one event; a reading is not."""
        if (table := self._table) is None:
            return list({event.id: event for event in events}.values())
        for event in events:
            event.id = id_of_reading(table, event)
        return events

    def _there(self, events: Sequence[Event], window: Window | None) -> list[bytes]:
        """Return which of the ids the target has; none of an import: there the writer asks."""
        if self._selection is None or window is None or not self._backend.features.keeps_events:
            return []
        wanted = {event.id for event in events}
        return [each for each in self.ids(self._selection, window) if each in wanted]

    def ids(self, selection: Selection, window: Window) -> Iterable[bytes]:
        """Yield what the target's events are known by, equal readings as often as they are there.

        Args:
            selection: Of what.
            window: When.
        """
        return (event.id for event in ReaderSource(self._backend, selection).events(window))

    def taken_ids(self, selection: Selection, window: Window) -> Collection[bytes]:
        """Return the ids that readings are stored by, as far as the target tells."""
        return ()

    def _store(self, events: list[Event], window: Window | None) -> list[tuple[Event, str]]:
        """Write events; return those that are refused, with the reasons."""
        if not events:
            return []
        known_by = [event.id for event in events]
        if self._selection is not None and window is not None and self._table is not None:
            _tell_apart(events, self.taken_ids(self._selection, window))
        self._backend.create_checkpoint(Checkpoint(BACKFILL_SHARD))
        try:
            with self._backend.transaction(BACKFILL_SHARD) as tx:
                rejected = write_or_reject(tx.write, events)
                fault("backfill_mid_write")
        finally:
            for event, own in zip(events, known_by, strict=True):
                event.id = own
        return rejected

    def _check_there(self, events: Sequence[Event], window: Window | None) -> None:
        if self._selection is None or window is None or not self._backend.features.keeps_events:
            return
        there = self._there(events, window)
        missing = missing_of(events, there, self._table is not None)
        if missing:
            raise BackendError(
                f"{len(missing)} of {len(events)} events of this slice are not there after they "
                f"were written; the first is of {missing[0].time}. If the target does not keep "
                "what is so old, choose a window that begins later; else retry this step"
            )


def _tell_apart(events: Sequence[Event], taken: Collection[bytes]) -> None:
    """Give equal readings, which are known by the same, an id each, and the same ones each time.

    Args:
        events: Readings that are missing.
        taken: Ids under which others are stored.
    """
    tried: Counter[bytes] = Counter()
    for event in events:
        known_by = event.id
        for number in itertools.count(tried[known_by]):
            event.id = _numbered(known_by, number)
            if event.id not in taken:
                tried[known_by] = number + 1
                break


def _numbered(known_by: bytes, number: int) -> bytes:
    if not number:
        return known_by
    return blake2b(known_by + number.to_bytes(8, "big"), digest_size=16).digest()


def _cut(times: list[datetime], step: int) -> datetime | None:
    """Return the instant before which about ``step`` events are, all of each instant."""
    if len(times) <= step:
        return None
    cut = times[step]
    return cut if cut > times[0] else None


def _id_of(text: Any) -> bytes:
    try:
        return uuid.UUID(str(text)).bytes
    except ValueError:
        return b""  # a reading's key, or a storage that keeps no ids
