"""What the parts of a backfill are. Read this before you write one.

A **kind** (:class:`Kind`) says what to do; most kinds move events and are a
:class:`~tailrace.pipeline.backfill.transfer.Transfer`, which needs only

- a **source** (:class:`Source`): lists its slices, estimates them, yields their events;
- a **sink** (:class:`Sink`): writes a slice so that twice is the same as once.

**A slice** is a part of the source that stays the same: the window of time, the range of keys,
or the bytes of a file that its ``spec`` names. It is read again after a crash, by another
process, and must give the same events then, each with the same 16-byte ``id``: an import
derives it from the source's own key (``uuid5``), never from a counter or a clock. That id is
what makes an event the same event; writing a slice twice, or a slice whose events are partly
there by another way, adds what is missing and nothing else.

**A step** is one slice in one backfill; its **marker** is its identity in every database. A sink
with transactions stores the marker with the rows (see :class:`Sink`).

**Size.** A slice should take some seconds at most: a pause waits for its end, live traffic may
wait for its transaction, and its events are in memory at once: some 10,000, some MB. A source
may yield it in pieces.

**Errors** are those of the drain: :class:`~tailrace.pipeline.errors.TransientBackendError` puts
the step off, to be tried again by itself; any other
:class:`~tailrace.pipeline.errors.TailraceError` fails the step, which stays to be retried when
somebody asks for it, while the other steps go on; :class:`BackfillRefused` from ``check()`` is
shown to the one who starts, before anything is stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import msgspec

from tailrace.pipeline.errors import TailraceError
from tailrace.pipeline.event import Event

from .parameters import Parameter

Values = Mapping[str, Any]
"""Parsed parameters by name: texts, numbers, booleans, aware datetimes, ``None``."""


class BackfillRefused(TailraceError):
    """A backfill cannot start as asked; its text says what to change."""


class BackfillStopped(TailraceError):
    """Somebody paused or cancelled the backfill while a step ran; the step is undone."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a backfill, or one end of it, is about to do."""

    rows: int = 0
    """Events, readings, letters or buckets."""
    bytes: int = 0
    """What is written, about; 0 where nobody can tell."""
    seconds: float = 0.0
    """With one worker and no throttling, about; 0.0 where nobody can tell."""
    is_exact: bool = False
    """Whether ``rows`` was counted."""
    notes: tuple[str, ...] = ()
    """What the one who starts should know before: one sentence each."""


Waiting = Callable[[Callable[[], None]], None]
"""Waits until the target's own drain will not bring what was read; see ``fence.py``."""
BACKFILL_SHARD = 1_000_000
"""Of the checkpoint whose lock is that of backfills, where a backend has no other; beyond any
stream's number."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a source, or of whatever a kind works on, that stays the same."""

    label: str
    """For people: ``2026-01-01 00:00 to 06:00``."""
    rows: int = 0
    """How many there are, about: progress and remaining time come of it."""
    spec: dict[str, Any] = {}
    """Whatever the kind needs to find it again; JSON values only."""


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did. It is committed with the step's rows."""

    rows_read: int = 0
    """Found in the slice."""
    rows_written: int = 0
    """Stored by this step."""
    rows_present: int = 0
    """Left alone, as they were there before."""
    rows_refused: int = 0
    """Not stored; ``notes`` say why."""
    bytes: int = 0
    """Written, about."""
    source_digest: str = ""
    """Order-independent checksum of the slice at its source; see ``digest.py``."""
    target_digest: str = ""
    """The same at its target, read back after writing; differs only if something is wrong."""
    notes: tuple[str, ...] = ()
    """For the log: one sentence each, a few at most."""
    detail: dict[str, Any] = {}
    """More, of the kind's own; JSON values."""

    @property
    def is_equal(self) -> bool:
        """Whether both ends have the same, as far as both were looked at."""
        return not (self.source_digest and self.target_digest) or (
            self.source_digest == self.target_digest
        )


class Marker(NamedTuple):
    """A step's identity, the same in every database."""

    backfill: str
    """The backfill's uid: 32 hexadecimal digits."""
    number: int
    """The step's place in the plan, from 0."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A slice that waits to be done, as a worker gets it."""

    marker: Marker
    slice: Slice
    attempt: int = 1
    """1 at first."""


class StepContext(Protocol):
    """What the engine offers to a kind while a step runs."""

    marker: Marker
    values: Values
    """The backfill's parameters."""

    def alive(self) -> None:
        """Keep the step ours, and see whether to go on; call it every second or so, between
        transactions.

        Raises:
            BackfillStopped: no; undo what is not committed by letting this pass.
        """

    def log(self, text: str) -> None:
        """Add a line to the backfill's log."""


class Source(Protocol):
    """Where events come from. Made anew in each process, from the parameters alone."""

    def check(self) -> None:
        """Look whether it can be read; connect, open, look at the first line.

        Raises:
            BackfillRefused: it cannot, or there is nothing in it; says what to change.
        """

    def estimate(self) -> Estimate:
        """Return how much there is, within seconds even for large sources."""

    def slices(self) -> Iterator[Slice]:
        """Yield the plan, in order, always the same for the same content. It may take long
        and is not kept in memory: yield as you go."""

    def read(self, slice_: Slice) -> Iterable[Sequence[Event]]:
        """Yield a slice's events, in pieces, each event with its ``id``.

        Events that cannot be made sense of are left out and told: a piece may hold events
        with ``rejected`` set to the reason (and any ``measurement``); the sink counts them as
        refused.

        Raises:
            TransientBackendError: try again later.
            BackendError: never as it is.
        """


class Sink(Protocol):
    """Where events go. Made anew in each process, from the parameters alone."""

    def check(self, estimate: Estimate) -> None:
        """Look whether it can be written, and whether the estimate has room.

        Args:
            estimate: Of the source.

        Raises:
            BackfillRefused: it cannot; says what to change.
        """

    def estimate(self, estimate: Estimate) -> Estimate:
        """Return the estimate of the whole from that of the source: bytes and seconds here."""

    def write(
        self, context: StepContext, slice_: Slice, pieces: Iterable[Sequence[Event]]
    ) -> StepResult:
        """Write a slice, and return what was done, checksums at both ends included.

        *All or nothing, and once.* A sink on a database looks for ``context.marker`` first and
        returns the result that it finds; else it writes rows, marker and result in one
        transaction. One on files writes beside and renames. One whose storage overwrites by
        identity (InfluxDB) asks what is there, and writes the rest.

        ``pieces`` is lazy, and is not to be consumed while a transaction is open: the source
        may be the same database.

        Raises:
            TransientBackendError, BackendError: nothing of the slice is stored, or a part that
                the next attempt recognises.
        """


class Kind(ABC):
    """Something that a backfill can do. One object serves all backfills of the kind."""

    name: ClassVar[str]
    """Its name in commands and in the database: ``copy``."""
    title: ClassVar[str]
    """For people: ``Copy to another backend``."""
    description: ClassVar[str]
    """A sentence or two, for the form and the command's help."""

    @abstractmethod
    def parameters(self) -> Sequence[Parameter]:
        """Return what it asks for; choices are those of this moment."""

    @abstractmethod
    def check(self, values: Values) -> None:
        """Look whether a backfill with these parameters could start.

        Raises:
            BackfillRefused: it could not; says what to change.
        """

    @abstractmethod
    def estimate(self, values: Values) -> Estimate:
        """Return what it would do; called after :meth:`check`, stores nothing."""

    @abstractmethod
    def plan(self, values: Values) -> Iterator[Slice]:
        """Yield the slices, one a step. A killed planner is called again from the start."""

    @abstractmethod
    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        """Do one step, whole or not at all. It may be called again for a step that was done."""

    def finish(self, values: Values, total: StepResult) -> Sequence[str]:
        """Do what comes after the last step, if none has failed; may be called more than once.

        Args:
            values: The parameters.
            total: All steps' results, added up.

        Returns:
            Sentences for the record: what was found, and what to do next.
        """
        return ()
