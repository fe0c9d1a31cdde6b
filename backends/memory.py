"""Events in this process's memory: for tests of host projects, and as the smallest example.

::

    TAILRACE = {"BACKENDS": {"default": {"BACKEND": "tailrace.backends.memory.MemoryBackend"}}}

    backend = get_backend()
    assert backend.events("checkout")[0].fields == {"amount": 12.5}
    backend.clear()
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.errors import ConfigurationError
from tailrace.pipeline.event import Event
from tailrace.pipeline.ledger import HighWater, Key
from tailrace.pipeline.rollup import Rollup

from .base import Transaction
from .in_process import InProcessBackend, Shard
from .model_tables import rows_by_table, table_of
from .reading.memory import MemoryReader
from .reading.query import ReadingQuery, Window
from .readings import memory_readings, reading_event, selected_ids
from .rollups.continuous import continuous_rollup
from .written_models import measurement_of, written_models


class MemoryBackend(MemoryReader, InProcessBackend):
    """Keeps events in memory, transactions and all. It ends with its process.

    ``OPTIONS["MAX_EVENTS"]``: how many events to keep; the oldest go first. Without it, all
    are kept.
    """

    options: ClassVar = {"MAX_EVENTS": int}

    def __init__(self, alias: str = "default", options: Mapping[str, Any] | None = None) -> None:
        """Start empty.

        Args:
            alias: This backend's name in ``TAILRACE["BACKENDS"]``.
            options: Its ``OPTIONS``.

        Raises:
            ConfigurationError: an option is unknown or of the wrong type.
        """
        super().__init__(alias, options)
        self._max_events: int | None = self.given_options.get("MAX_EVENTS")
        if self._max_events is not None and (self._max_events is True or self._max_events < 1):
            raise ConfigurationError(
                f"TAILRACE['BACKENDS'][{alias!r}]['OPTIONS']['MAX_EVENTS'] is "
                f"{self._max_events!r}; write a number of at least 1, or leave it out."
            )
        self._events: deque[Event] = deque(maxlen=self._max_events)
        self._letters: deque[DeadLetter] = deque(maxlen=self._max_events)
        self._ledger: dict[Key, int] = defaultdict(int)
        self._continuous: dict[str, Rollup] = {}

    # --- for tests of host projects

    def events(self, measurement: str | None = None) -> list[Event]:
        """Return what is stored, oldest commit first.

        Args:
            measurement: Only these; all by default.
        """
        with self._lock:
            return [e for e in self._events if measurement is None or e.measurement == measurement]

    def letters(self) -> list[DeadLetter]:
        """Return the dead letters: what could not be stored, oldest first."""
        with self._lock:
            return list(self._letters)

    def add_missing(self, events: Sequence[Event]) -> int:
        """Store events that are not there, by their ids, beside the ledger: for backfills.

        Returns:
            How many were stored.
        """
        with self._lock:
            known = {event.id for event in self._events}
            missing = [event for event in events if event.id not in known]
            self._events.extend(missing)
        return len(missing)

    def clear(self) -> None:
        """Forget events, dead letters and the ledger; go on from the same position.

        Marks are kept too, or the next frame of each producer would look like the loss of
        everything before it.
        """
        with self._lock:
            self._events.clear()
            self._letters.clear()
            for shard in self._shards.values():
                shard.marks = {key: _cleared(mark) for key, mark in shard.marks.items()}
            self._ledger.clear()

    # --- the contract

    def stored_events(self, measurement: str) -> list[Event]:
        return self.events(measurement)

    def stored_readings(self, model: type) -> list[dict[str, Any]]:
        return memory_readings(model, self.events(measurement_of(model)))

    def store_reading(
        self, reading_model: type, device: Any, timestamp: datetime, data: Mapping[str, Any]
    ) -> None:
        event = reading_event(reading_model, device, timestamp, data)
        table_of(reading_model).row(event)  # for its errors
        with self._lock:
            self._events.append(event)

    def delete_readings(
        self,
        reading_model: type,
        device: Any = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> int:
        asked = ReadingQuery.make(reading_model, device, start, end)
        doomed = selected_ids(asked, self.events(measurement_of(reading_model)))
        with self._lock:
            kept = [event for event in self._events if event.id not in doomed]
            deleted = len(self._events) - len(kept)
            self._events.clear()
            self._events.extend(kept)
        return deleted

    # Answers are computed from the rows each time, which is right and up to date by itself.

    def continuous_aggregate(
        self, name: str, reading_model: type, field: str | None, *args: Any, **options: Any
    ) -> bool:
        rollup = continuous_rollup(name, reading_model, field, *args, **options)
        with self._lock:
            known = self._continuous.get(name)
            if known is not None and known.fingerprint(0) != rollup.fingerprint(0):
                raise ValueError(
                    f"there is another continuous aggregate {name!r} already; choose another "
                    "name, or drop it first (drop_continuous_aggregate)"
                )
            self._continuous[name] = rollup
        return known is None

    def refresh_continuous_aggregate(
        self,
        name: str,
        reading_model: type,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        Window.make(start, end)
        self._continuous_of(name, reading_model)

    def drop_continuous_aggregate(self, name: str, reading_model: type) -> None:
        self._continuous_of(name, reading_model)
        with self._lock:
            self._continuous.pop(name, None)

    def _continuous_of(self, name: str, model: Any) -> Rollup:
        found = self._continuous.get(name)
        if found is None or found.source != model._meta.label:
            raise ValueError(f"{model._meta.label} has no continuous aggregate {name!r:.80}")
        return found

    def health_check(self) -> dict[str, str]:
        message = f"{len(self._events)} events in the memory of this process"
        return {"status": "pass", "message": message, "version": ""}

    def ledger_totals(
        self, start: int | None = None, end: int | None = None
    ) -> Iterable[tuple[str, str, int]]:
        totals: Counter[tuple[str, str]] = Counter()
        with self._lock:
            for (minute, measurement, outcome), amount in self._ledger.items():
                if (start is None or minute >= start) and (end is None or minute < end):
                    totals[measurement, outcome] += amount
        return [(*key, amount) for key, amount in sorted(totals.items())]

    def producer_totals(self) -> dict[str, int]:
        totals: Counter[str] = Counter()
        with self._lock:
            for shard in self._shards.values():
                for mark in shard.marks.values():
                    totals.update(mark.captured())
        return {measurement: amount for measurement, amount in totals.items() if amount}

    # --- inside

    def _begin(self, shard: Shard) -> MemoryTransaction:
        return MemoryTransaction(shard)

    def _commit(self, shard: Shard, tx: MemoryTransaction) -> None:
        self._events.extend(tx.events)
        self._letters.extend(tx.letters)
        for key, amount in tx.amounts.items():
            self._ledger[key] += amount
        shard.marks.update(tx.marks)
        shard.checkpoint = tx.checkpoint


class MemoryTransaction(Transaction):
    """Collects one batch; its backend takes it over when the block ends well."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.checkpoint = shard.checkpoint
        self.events: list[Event] = []
        self.letters: list[DeadLetter] = []
        self.amounts: dict[Key, int] = defaultdict(int)
        self.marks: dict[bytes, HighWater] = {}

    def high_waters(self, producers: Collection[bytes]) -> dict[bytes, HighWater]:
        marks = {**self._shard.marks, **self.marks}
        return {producer: marks[producer] for producer in producers if producer in marks}

    def write(self, events: Sequence[Event]) -> None:
        written = written_models()
        if not written.keys().isdisjoint({event.measurement for event in events}):
            # Devices are in a database, which a process's memory has nothing to do with.
            rows_by_table(events, written, using=None)
        self.events.extend(events)

    def park(self, letters: Sequence[DeadLetter]) -> None:
        self.letters.extend(letters)

    def book(self, amounts: Mapping[Key, int]) -> None:
        for key, amount in amounts.items():
            self.amounts[key] += amount

    def advance(self, checkpoint: Checkpoint, high_waters: Sequence[HighWater]) -> None:
        self.checkpoint = checkpoint
        self.marks.update((mark.producer, mark) for mark in high_waters)


def _cleared(mark: HighWater) -> HighWater:
    """Return a mark that says: nothing was captured so far that counts."""
    before = {m: n + mark.before.get(m, 0) for m, n in mark.captured().items()}
    return HighWater(mark.producer, mark.sequence, mark.sent, mark.unsent, mark.is_last, before)
