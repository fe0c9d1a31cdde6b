"""Sources and sinks on any backend, by the two contracts that every backend has.

Reading goes through :meth:`~tailrace.backends.reader.Reader.query`; writing through a
transaction of a shard that no stream has. The latter is for storages where writing an event
twice is the same as writing it once (``features.transactional_checkpoint`` is false), such as
InfluxDB.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from tailrace.backends.base import BaseBackend
from tailrace.pipeline.backfill.contracts import (
    BackfillRefused,
    Estimate,
    Slice,
    StepContext,
    StepResult,
)
from tailrace.pipeline.backfill.digest import Digest
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import write_or_reject
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import Event, ns_from_datetime
from tailrace.pipeline.faults import fault

from .rows import content_id
from .selection import Selection, Window, window_of, window_slice

BACKFILL_SHARD = 1_000_000
"""Beyond any stream's number."""
_MICROSECOND = timedelta(microseconds=1)
_EVENTS_A_SECOND = 8_000
_BYTES_A_ROW = 100


class ReaderSource:
    """Events of a backend that can be queried."""

    def __init__(self, backend: BaseBackend, selection: Selection) -> None:
        """Keep both; ask nothing yet."""
        self._backend = backend
        self._selection = selection
        self._what = selection.model or selection.measurement

    def check(self) -> None:
        try:
            found = self._rows(self._selection.window, limit=1)
        except BackendError as error:
            raise BackfillRefused(f"the source cannot be read: {error}") from error
        if not found:
            raise BackfillRefused(
                f"backend {self._backend.alias!r} has no {self._selection.measurement!r} from "
                f"{self._selection.window.text}, so nothing was started"
            )

    def estimate(self) -> Estimate:
        start, end = self._selection.window
        counted = self._backend.aggregate(self._what, None, "count", start=start, end=end)
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
        return [self._event_of(row) for row in self._rows(window)]

    def _rows(
        self, window: Window, limit: int | None = None, only_times: bool = False
    ) -> list[dict[str, Any]]:
        return self._backend.query(
            self._what,
            start=window.start,
            end=window.end,
            limit=limit,
            order="time",
            fields=[] if only_times and self._selection.model is None else None,
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


class OverwritingSink:
    """Writes slices into a storage where a second copy of an event replaces the first."""

    def __init__(self, backend: BaseBackend, selection: Selection | None = None) -> None:
        """Keep both; ask nothing yet."""
        self._backend = backend
        self._selection = selection

    def check(self, estimate: Estimate) -> None:
        try:
            self._backend.create_checkpoint(Checkpoint(BACKFILL_SHARD))
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
        good = [event for event in events if event.rejected is None]
        context.alive()
        self._backend.create_checkpoint(Checkpoint(BACKFILL_SHARD))
        with self._backend.transaction(BACKFILL_SHARD) as tx:
            rejected = write_or_reject(tx.write, good)
            fault("backfill_mid_write")
        refused = {id(event) for event, _ in rejected}
        source = Digest()
        source.add(event for event in good if id(event) not in refused)
        missing = self._missing([e for e in good if id(e) not in refused], window_of(slice_))
        if missing:
            raise BackendError(
                f"{missing} of {source.rows} events of this slice are not there after they were "
                "written; is the target's retention shorter than the window is old?"
            )
        return StepResult(
            rows_read=len(events),
            rows_written=source.rows,
            rows_refused=len(events) - source.rows,
            source_digest=str(source),
            notes=tuple(dict.fromkeys(reason for _, reason in rejected))[:3],
        )

    def _missing(self, events: list[Event], window: Window | None) -> int:
        if self._selection is None or window is None or not self._backend.features.keeps_events:
            return 0
        there = len(ReaderSource(self._backend, self._selection).events(window))
        return max(0, len({event.id for event in events}) - there)


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
