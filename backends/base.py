"""What a storage backend is. Read this before you write one.

A backend stores events, and remembers in the same place how far it has come. The drain asks
it for one :class:`Transaction` a batch and calls, in this order::

    with backend.transaction(shard) as tx:    # locks the shard's checkpoint
        tx.checkpoint                         # ... and shows it as it is under the lock
        tx.high_waters(producers)             # what was stored of these producers
        tx.write(events)                      # as often as needed; see RejectedEvents
        tx.park(dead_letters)
        tx.book(amounts)                      # the ledger
        tx.advance(checkpoint, high_waters)

**All or nothing.** When the block ends, all of it is stored for good; when it raises, or the
process dies, none of it. That is what makes every event stored exactly once, however often
and by however many drainers it is tried. A backend whose storage has no transactions sets
``features.transactional_checkpoint = False``, stores the events first and the checkpoint
after, and must make writing an event twice the same as writing it once.

**Errors** are translated at the edge, with their cause (``raise ... from error``):
:class:`TransientBackendError` (locked, down, overloaded: the same call may succeed later),
:class:`RejectedEvents` (this data, never: the drain halves the batch and parks what is bad;
``write`` must leave the transaction usable), :class:`BackendMisconfigured` (nothing works
until somebody changes something; say what).

**Impossible, unnecessary, partial.** What a backend cannot do raises
:class:`NotSupportedByBackend` and says which backend can. What it need not do is a no-op. Nothing
is done in part: a method has its whole effect or raises.

``tailrace.backends.testing`` has the suite that every backend passes, yours included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.errors import ConfigurationError, NotSupportedByBackend
from tailrace.pipeline.event import Event
from tailrace.pipeline.interval import Interval
from tailrace.pipeline.ledger import HighWater, Key
from tailrace.pipeline.parked import (
    LIST_LETTERS,
    LetterCount,
    LetterSelection,
    ListedLetter,
    ParkedLetter,
)
from tailrace.pipeline.retention import Policy

from .continuous import ContinuousAggregates


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a backend can do. The defaults are what most storages can."""

    transactional_checkpoint: bool = True
    """Are rows and checkpoint stored in one transaction?"""
    keeps_events: bool = True
    """Can what was written be read again?"""
    ledger: bool = True
    """Does it keep the ledger and dead letters?"""


class Transaction(ABC):
    """One batch, stored all or not at all."""

    checkpoint: Checkpoint
    """The shard's checkpoint, locked: nobody else can move it before we end."""

    def note_gap(self, producer: bytes) -> None:  # noqa: B027 - most have nothing to do
        """Hear that frames of a producer are missing before one of this batch.

        Only for backends to which it matters in what order events came; others do nothing.
        """

    @abstractmethod
    def high_waters(self, producers: Collection[bytes]) -> dict[bytes, HighWater]:
        """Return the high-water marks of those producers that were seen before."""

    @abstractmethod
    def write(self, events: Sequence[Event]) -> None:
        """Store events.

        Raises:
            RejectedEvents: at least one of them can never be stored. None of this call's
                events is written, and the transaction can go on.
        """

    @abstractmethod
    def park(self, letters: Sequence[DeadLetter]) -> None:
        """Store dead letters."""

    @abstractmethod
    def book(self, amounts: Mapping[Key, int]) -> None:
        """Add amounts, which may be negative, to the ledger."""

    @abstractmethod
    def advance(self, checkpoint: Checkpoint, high_waters: Sequence[HighWater]) -> None:
        """Move the checkpoint and the producers' high-water marks."""

    # What a replay of dead letters needs (tailrace.pipeline.replay). A backend has these
    # four and BaseBackend.dead_letters, or none of them.

    def parked(self, ids: Collection[int]) -> Sequence[ParkedLetter]:
        """Return those of these dead letters that are this shard's and wait, by id, locked."""
        raise _no_dead_letters(self)

    def settle(self, replayed: Collection[int], refused: Mapping[int, str]) -> None:
        """Mark letters as replayed; count an attempt more, and the reason, for the others."""
        raise _no_dead_letters(self)

    def holds(self, event: Event) -> bool:
        """Return whether this very event, by its id, is stored."""
        raise _no_dead_letters(self)

    def booked(self, measurement: str, outcome: str) -> int:
        """Return what this shard's ledger has, over all minutes."""
        raise _no_dead_letters(self)


class BaseBackend(ContinuousAggregates, ABC):
    """A storage for events. Instances are shared by the threads of a process.

    How it is read is the other contract, in ``reader.py``; ``continuous.py`` is a part of both.
    """

    features: ClassVar[Features] = Features()
    options: ClassVar[Mapping[str, type | tuple[type, ...]]] = {}
    """Names and types of what ``OPTIONS`` may hold."""
    batch_factor: ClassVar[int] = 1
    """How many times ``DRAIN_BATCH_EVENTS`` one of its transactions may have; more than 1 where a
    long one keeps nobody waiting, and the server idles between two."""

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        """Take the configuration; connect to nothing yet.

        Args:
            alias: This backend's name in ``TAILRACE["BACKENDS"]``.
            options: Its ``OPTIONS``.

        Raises:
            ConfigurationError: an option is unknown or of the wrong type.
        """
        self.alias = alias
        self.given_options = dict(options)
        for name, value in options.items():
            expected = self.options.get(name)
            if expected is None:
                known = ", ".join(self.options) or "none"
                raise ConfigurationError(
                    f"TAILRACE['BACKENDS'][{alias!r}]['OPTIONS'] has {name!r}, which "
                    f"{type(self).__name__} does not know. It takes: {known}."
                )
            if not isinstance(value, expected):
                raise ConfigurationError(
                    f"TAILRACE['BACKENDS'][{alias!r}]['OPTIONS'][{name!r}] is {value!r:.80}; "
                    f"write a {_type_names(expected)}."
                )

    def get_db_alias(self) -> str | None:
        """Return the alias of the Django database that holds the events, if one does."""
        return None

    def setup(self) -> None:
        """Prepare the storage; called once in a process, before the first batch."""

    def maintain(self) -> str:
        """Do what the storage needs now and then; beat calls it every hour.

        Returns:
            What was done, for the log.
        """
        return "nothing to do"

    def refresh_rollup(
        self, name: str, start: datetime | None = None, end: datetime | None = None
    ) -> Any:
        """Compute what is out of date in the buckets of a rollup within ``[start, end)``.

        Returns:
            What was done; as text, for people.

        Raises:
            ValueError: there is no such rollup, or no bucket in the window.
            NotSupportedByBackend: this backend keeps none.
        """
        raise self._not_supported("refresh_rollup")

    def refresh_due(self) -> Mapping[str, str]:
        """Refresh the rollups whose time has come; beat calls it.

        Returns:
            What was done, by rollup, for the log; nothing where the backend keeps none.
        """
        return {}

    def close(self) -> None:
        """Let go of connections and files."""

    def health_check(self) -> dict[str, str]:
        """Return ``{"status": "pass" or "fail", "message", "version"}``; raises nothing else.

        Raises:
            NotSupportedByBackend: this backend cannot tell.
        """
        raise self._not_supported("health_check")

    def store_reading(
        self, reading_model: type, device: Any, timestamp: datetime, data: Mapping[str, Any]
    ) -> None:
        """Store one reading now, and return when it is stored.

        ``tailrace.pipeline.store_reading`` is the one that does not wait.

        Args:
            reading_model: Which model the reading is of.
            device: The device, or its primary key.
            timestamp: When it was measured: an aware datetime.
            data: The values, by the names of the model's fields.

        Raises:
            ValueError: it is no reading of this model; says why.
            RejectedEvents: the storage refuses it.
            TransientBackendError, BackendMisconfigured: see above.
        """
        raise self._not_supported("store_reading")

    def delete_readings(
        self,
        reading_model: type,
        device: Any = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> int:
        """Delete readings, some thousand in a transaction.

        Args:
            reading_model: Of which model.
            device: Of this device, or primary key; of all without.
            start: First instant.
            end: First instant that is kept again.

        Returns:
            How many there were.

        Raises:
            ValueError: the window or the device is none.
            TransientBackendError: those deleted before stay deleted; call it again.
        """
        raise self._not_supported("delete_readings")

    def create_retention_policy(
        self, reading_model: type, drop_after: str | timedelta | Interval = "90 days"
    ) -> int:
        """Have a model's readings deleted when they are older; returns the policy's number.

        Raises:
            NotSupportedByBackend: this backend keeps no policies; those of
                ``TAILRACE["RETENTION"]`` may count all the same.
        """
        raise self._not_supported("create_retention_policy")

    def remove_retention_policy(self, reading_model: type) -> bool:
        """Undo :meth:`create_retention_policy`; return whether there was a policy."""
        raise self._not_supported("remove_retention_policy")

    def sweep(
        self, policies: Mapping[str, Policy], *, seconds: float, every_seconds: float = 0.0
    ) -> object:
        """Apply ``TAILRACE["RETENTION"]``; beat calls it.

        Args:
            policies: By target.
            seconds: When to stop, if there is more to do than fits into one run.
            every_seconds: Not again before so long after the last run that came to its end.

        Returns:
            What was done, for the log; with an attribute ``is_finished`` that is false, it is
            called again at once.

        Raises:
            NotSupportedByBackend: nothing is ever deleted here.
        """
        raise self._not_supported("sweep")

    def forecast_retention(self, policies: Mapping[str, Policy]) -> Sequence[Any]:
        """Return what :meth:`sweep` would delete; change nothing.

        Args:
            policies: By target.

        Raises:
            NotSupportedByBackend: nothing is ever deleted here.
        """
        raise self._not_supported("forecast_retention")

    @abstractmethod
    def read_checkpoint(self, shard: int) -> Checkpoint | None:
        """Return a shard's checkpoint, without a lock; ``None`` before the first batch."""

    @abstractmethod
    def create_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Store a shard's first checkpoint, unless there is one."""

    @abstractmethod
    def transaction(self, shard: int) -> AbstractContextManager[Transaction]:
        """Open a transaction on a shard whose checkpoint exists.

        Raises:
            TransientBackendError, BackendMisconfigured: see above; also while it ends.
        """

    @abstractmethod
    def ledger_totals(
        self, start: int | None = None, end: int | None = None
    ) -> Iterable[tuple[str, str, int]]:
        """Return ``(measurement, outcome, amount)``, added up over shards and minutes.

        Args:
            start: First minute, in seconds since 1970; all from the beginning without.
            end: First minute that does not count any more.
        """

    @abstractmethod
    def producer_totals(self) -> dict[str, int]:
        """Return how many events of each measurement the producers say they captured.

        The other side of the books: it is added up from the high-water marks, not from the
        ledger, and must equal the ledger's ``captured``.
        """

    def dead_letters(
        self, selection: LetterSelection, after_id: int = 0, limit: int = LIST_LETTERS
    ) -> Sequence[ListedLetter]:
        """Return this backend's dead letters that are selected, by id, without their content.

        Args:
            selection: Which.
            after_id: Those with larger ids only: the last one's of the page before.
            limit: At most so many.
        """
        raise _no_dead_letters(self)

    def dead_letter_counts(self) -> Sequence[LetterCount]:
        """Return how many letters wait for each measurement and reason, the most first."""
        raise _no_dead_letters(self)


def _no_dead_letters(part: object) -> NotSupportedByBackend:
    return NotSupportedByBackend(
        f"{type(part).__name__} does not show its dead letters; "
        "tailrace.backends.django_db.DjangoDBBackend is one that does"
    )


def _type_names(expected: type | tuple[type, ...]) -> str:
    types = expected if isinstance(expected, tuple) else (expected,)
    return " or ".join(kind.__name__ for kind in types)
