"""Sources and sinks on the memory backend: for tests of host projects, in one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from tailrace.backends.memory import MemoryBackend
from tailrace.pipeline.backfill.contracts import (
    BackfillRefused,
    Estimate,
    Slice,
    StepContext,
    StepResult,
)
from tailrace.pipeline.backfill.digest import Digest
from tailrace.pipeline.event import Event, datetime_from_ns

from .selection import Selection, Window, window_of, window_slice

_MICROSECOND = timedelta(microseconds=1)


class MemorySource:
    """Events of a memory backend."""

    def __init__(self, backend: MemoryBackend, selection: Selection) -> None:
        """Keep both."""
        self._backend = backend
        self._selection = selection

    def check(self) -> None:
        if not self._within(self._selection.window):
            raise BackfillRefused(
                f"backend {self._backend.alias!r} has no {self._selection.measurement!r} from "
                f"{self._selection.window.text}, so nothing was started"
            )

    def estimate(self) -> Estimate:
        return Estimate(rows=len(self._within(self._selection.window)), is_exact=True)

    def slices(self) -> Iterator[Slice]:
        events = sorted(self._within(self._selection.window), key=lambda event: event.time_ns)
        times = [event.time_ns // 1000 * 1000 for event in events]
        start, step = 0, self._selection.slice_rows
        while start < len(times):
            end = start + step
            while end < len(times) and times[end] == times[end - 1]:
                end += 1
            stop = times[end] if end < len(times) else times[-1] + 1000
            window = Window(datetime_from_ns(times[start]), datetime_from_ns(stop))
            yield window_slice(window, min(end, len(times)) - start)
            start = end

    def read(self, slice_: Slice) -> Iterator[Sequence[Event]]:
        window = window_of(slice_)
        assert window is not None, "our own slices are windows"
        yield self._within(window)

    def _within(self, window: Window) -> list[Event]:
        start, end = window
        return [
            event
            for event in self._backend.events(self._selection.measurement)
            if (start is None or event.time >= start) and (end is None or event.time < end)
        ]


class MemorySink:
    """Adds what is missing, by id."""

    def __init__(self, backend: MemoryBackend) -> None:
        """Keep the backend."""
        self._backend = backend

    def check(self, estimate: Estimate) -> None:
        room = self._backend.given_options.get("MAX_EVENTS")
        if room is not None and estimate.rows > room:
            raise BackfillRefused(
                f"backend {self._backend.alias!r} keeps {room} events (MAX_EVENTS), and this has "
                f"{estimate.rows}: choose a shorter window"
            )

    def estimate(self, estimate: Estimate) -> Estimate:
        return estimate

    def write(
        self, context: StepContext, slice_: Slice, pieces: Iterable[Sequence[Event]]
    ) -> StepResult:
        events = [event for piece in pieces for event in piece]
        good = {event.id: event for event in events if event.rejected is None}
        context.alive()
        written = self._backend.add_missing(list(good.values()))
        source, target = Digest(), Digest()
        source.add(good.values())
        target.add({e.id: e for e in self._backend.events() if e.id in good}.values())
        return StepResult(
            rows_read=len(events),
            rows_written=written,
            rows_present=len(good) - written,
            rows_refused=sum(event.rejected is not None for event in events),
            source_digest=str(source),
            target_digest=str(target),
        )
