"""Sources and sinks on any Django database."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from tailrace.backends.django_errors import translated_errors
from tailrace.backends.private_connection import private_connection
from tailrace.pipeline.backfill.contracts import (
    BackfillRefused,
    Estimate,
    Slice,
    StepContext,
    StepResult,
    Waiting,
)
from tailrace.pipeline.backfill.digest import Digest
from tailrace.pipeline.dead_letter import write_or_reject
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import Event
from tailrace.pipeline.faults import fault

from .markers import forget_markers, found_result, put_result
from .rows import EventRows, Rows, event_of, in_pieces, missing_of, rows_of, slices_of, told
from .selection import Selection, Window, window_of

ROOM_FACTOR = 1.5
"""Indexes, and the database's own files beside the rows."""
_EVENTS_A_SECOND = 15_000
"""About, of one worker; only the estimate depends on it."""
_TIMES_A_QUERY = 400
"""Bound parameters in one statement: old SQLite takes 999."""


class Writer(Protocol):
    """What a sink writes by: the drain's own transaction, without a shard."""

    def write(self, events: Sequence[Event]) -> None: ...
    def finish(self) -> None: ...


@contextmanager
def connected(using: str) -> Iterator[None]:
    """Use our own connection to an alias, and our own errors."""
    with translated_errors(using), private_connection(using):
        yield


class OrmSource:
    """Rows of an alias, in windows of time."""

    def __init__(self, using: str, selection: Selection) -> None:
        """Keep both; ask nothing yet."""
        self.using = using
        self.selection = selection
        self.rows = rows_of(using, selection)

    def check(self) -> None:
        try:
            with connected(self.using):
                exists = self.rows.within(self.selection.window).exists()
        except (BackendError, ImproperlyConfigured) as error:
            raise BackfillRefused(f"the source cannot be read: {error}") from error
        if not exists:
            raise BackfillRefused(
                f"database {self.using!r} has no {self.selection.measurement!r} from "
                f"{self.selection.window.text}, so nothing was started"
            )

    def estimate(self) -> Estimate:
        with connected(self.using):
            rows, is_exact = self.rows.count()
            size = rows * self.rows.bytes_a_row()
        return Estimate(rows=rows, bytes=size, is_exact=is_exact)

    def slices(self) -> Iterator[Slice]:
        with connected(self.using):
            yield from slices_of(self.rows)

    def read(self, slice_: Slice) -> Iterator[Sequence[Event]]:
        window = window_of(slice_)
        assert window is not None, "our own slices are windows"
        with connected(self.using):
            # Whole, so that no query is open while the sink writes, maybe to the same database.
            pieces = list(self.rows.events(window))
        yield from pieces


class OrmSink:
    """Writes slices into an alias: what is missing there, with the step's marker."""

    def __init__(
        self,
        using: str,
        writer: Callable[[], Writer],
        selection: Selection | None = None,
        wait: Waiting | None = None,
    ) -> None:
        """Keep all; ask nothing yet.

        Args:
            using: The database alias.
            writer: Makes what writes events, within the open transaction.
            selection: Of a copy; an import has none.
            wait: Waits until the alias's own drain will not bring any of a slice's events.
        """
        self.using = using
        self._writer = writer
        self._selection = selection
        self._wait = wait

    def check(self, estimate: Estimate) -> None:
        try:
            with connected(self.using):
                apps.get_model("tailrace", "BackfillStep").objects.using(self.using).exists()
                if self._selection is not None:
                    rows_of(self.using, self._selection).all.exists()
        except (BackendError, ImproperlyConfigured) as error:
            raise BackfillRefused(f"the target cannot be written: {error}") from error
        free, wanted = free_bytes(self.using), int(estimate.bytes * ROOM_FACTOR)
        if free is not None and free < wanted:
            raise BackfillRefused(
                f"database {self.using!r} has room for {free // 2**20} MB, and this takes about "
                f"{wanted // 2**20} MB: make room, or choose a shorter window"
            )

    def estimate(self, estimate: Estimate) -> Estimate:
        return Estimate(
            rows=estimate.rows,
            bytes=int(estimate.bytes * ROOM_FACTOR),
            seconds=estimate.rows / _EVENTS_A_SECOND,
            is_exact=estimate.is_exact,
            notes=estimate.notes,
        )

    def write(
        self, context: StepContext, slice_: Slice, pieces: Iterable[Sequence[Event]]
    ) -> StepResult:
        with connected(self.using):
            if (done := found_result(self.using, context.marker)) is not None:
                return done
        events = [event for piece in pieces for event in piece]
        fault("backfill_after_read")
        context.alive()
        if self._wait is not None:
            self._wait(context.alive)
        with connected(self.using), transaction.atomic(using=self.using, durable=True):
            result = self._write(events, window_of(slice_))
            put_result(self.using, context.marker, result)
            fault("backfill_before_commit")
        fault("backfill_after_commit")
        return result

    def forget(self, backfill: str) -> None:
        """Remove the markers of a backfill that is over."""
        with connected(self.using):
            forget_markers(self.using, backfill)

    def _write(self, events: list[Event], window: Window | None) -> StepResult:
        reasons = [event.rejected for event in events if event.rejected is not None]
        good = self._distinct([event for event in events if event.rejected is None])
        there = (event.id for event in self._there(good, window))
        missing = missing_of(good, there, self._counts_equal_ones)
        present = len(good) - len(missing)
        writer = self._writer()
        rejected = write_or_reject(writer.write, missing)
        writer.finish()
        fault("backfill_mid_write")
        source = Digest()
        if rejected:
            refused = {id(event) for event, _ in rejected}
            reasons += [reason for _, reason in rejected]
            good = [event for event in good if id(event) not in refused]
        source.add(good)
        target = self._digest_of(good, window)
        if str(source) != str(target):
            raise BackendError(
                f"what was written is not what was read ({source} became {target}); nothing of "
                "this slice is stored"
            )
        return StepResult(
            rows_read=len(events),
            rows_written=len(missing) - len(rejected),
            rows_present=present,
            rows_refused=len(reasons),
            source_digest=str(source),
            target_digest=str(target),
            notes=told(reasons),
        )

    def _distinct(self, events: list[Event]) -> list[Event]:
        """Return each event once: an id that comes twice is one event; a reading is not."""
        if self._counts_equal_ones:
            return events
        return list({event.id: event for event in events}.values())

    @property
    def _counts_equal_ones(self) -> bool:
        return self._selection is not None and self._selection.model is not None

    def _digest_of(self, events: Sequence[Event], window: Window | None) -> Digest:
        """Return the digest of what the target has of these events."""
        wanted = Counter(event.id for event in events)
        digest = Digest()
        for event in self._there(events, window):
            if wanted[event.id] > 0:
                wanted[event.id] -= self._counts_equal_ones
                digest.add((event,))
        return digest

    def _there(self, events: Sequence[Event], window: Window | None) -> Iterator[Event]:
        """Yield the target's events among which these could be."""
        if not events:
            return
        if self._selection is not None and window is not None:
            for piece in rows_of(self.using, self._selection).events(window):
                yield from piece
            return
        times: dict[str, set[Any]] = {}
        for event in events:
            times.setdefault(event.measurement, set()).add(event.time)
        for measurement, moments in times.items():
            yield from self._at(measurement, sorted(moments))

    def _at(self, measurement: str, moments: list[Any]) -> Iterator[Event]:
        rows: Rows = EventRows(self.using, Selection(measurement, Window(None, None)))
        columns = ("uid", "time", "measurement", "tags", "fields", "trace_id")
        for start in range(0, len(moments), _TIMES_A_QUERY):
            some = rows.all.filter(time__in=moments[start : start + _TIMES_A_QUERY])
            for piece in in_pieces(some.values_list(*columns), event_of):
                yield from piece


def free_bytes(using: str) -> int | None:
    """Return the room that a database has, where that can be told: files of this host."""
    connection = connections[using]
    if connection.vendor != "sqlite" or connection.is_in_memory_db():
        return None
    return shutil.disk_usage(Path(connection.settings_dict["NAME"]).resolve().parent).free
