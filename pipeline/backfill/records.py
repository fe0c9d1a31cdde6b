"""What is kept of a backfill, and what the engine needs of the place where it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from .contracts import Marker, Slice, Step, StepResult
from .digest import digest_sum

State = Literal["running", "paused", "cancelled", "failed", "done"]

RUNNING, PAUSED, CANCELLED, FAILED, DONE = "running", "paused", "cancelled", "failed", "done"
READY = "ready"
"""A step's first state; the others are those of backfills, but for paused and cancelled."""

NOTES_KEPT = 50


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A backfill, as a worker or a page sees it."""

    uid: str
    kind: str
    values: str
    """Its parameters, as JSON."""
    state: str
    is_planned: bool
    """Whether all of its steps are known; planning is its first part."""
    workers: int
    """How many steps may run at once."""
    created_by: str = ""
    created_ms: int = 0
    finished_ms: int = 0
    is_throttled: bool = True
    """Whether live traffic goes first."""
    finish_notes: tuple[str, ...] = ()
    """What was found at the end, and what to do next."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """A backfill's steps, added up."""

    steps: Mapping[str, int] = {}
    """How many are in each state: ``ready``, ``running``, ``failed``, ``done``."""
    rows_planned: int = 0
    """In all steps, about."""
    rows_settled: int = 0
    """Of these, in steps that are done."""
    recent_rows: int = 0
    """Of these, in steps that ended within ``recent_seconds``."""
    recent_seconds: float = 60.0
    running_rows: int = 0

    @property
    def open_steps(self) -> int:
        """How many are to be done, or being done."""
        return self.steps.get(READY, 0) + self.steps.get(RUNNING, 0)

    @property
    def fraction(self) -> float:
        """How much is done: 0.0 to 1.0, by rows where they are known, else by steps."""
        if self.rows_planned:
            return self.rows_settled / self.rows_planned
        total = sum(self.steps.values())
        return self.steps.get(DONE, 0) / total if total else 0.0

    @property
    def rows_per_second(self) -> float:
        """How fast it went of late."""
        return self.recent_rows / self.recent_seconds if self.recent_seconds else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """How long it will take if it goes on like that; ``None`` if nobody can tell."""
        rate = self.rows_per_second
        return (self.rows_planned - self.rows_settled) / rate if rate > 0 else None


class Store(Protocol):
    """Where backfills are kept. Each method is one transaction; all are safe to be called by
    any number of workers at once. Times are this worker's clock.

    Raises:
        BackendError: the store's database cannot be asked; nothing has changed.
    """

    def get(self, uid: str) -> Record | None:
        """Return a backfill."""

    def state(self, uid: str) -> str:
        """Return its state, cheaply; ``cancelled`` if it is gone."""

    def claim_whole(self, uid: str, worker: str, seconds: float) -> bool:
        """Take the backfill as a whole, for planning or finishing, unless another worker has
        it or it does not run; also renews what is ours."""

    def release_whole(self, uid: str, worker: str) -> None:
        """Give it back, if it is ours."""

    def forget_plan(self, uid: str) -> None:
        """Remove the steps of a plan that was not finished."""

    def add_steps(
        self, uid: str, worker: str, first: int, slices: Sequence[Slice], seconds: float
    ) -> bool:
        """Add steps, numbered from ``first``, and keep the backfill for ``seconds`` more;
        returns whether it was still ours, else nothing is added."""

    def planned(self, uid: str, worker: str) -> bool:
        """Say that all steps are there, if the backfill is still ours."""

    def claim(self, record: Record, worker: str, seconds: float) -> Step | None:
        """Take a step: one that is ready, or whose worker has died; ``None`` if there is none,
        if enough are being done, or if the backfill does not run."""

    def renew(self, marker: Marker, worker: str, seconds: float) -> bool:
        """Keep a step for longer; returns whether it is still ours."""

    def done(self, marker: Marker, worker: str, result: StepResult) -> bool:
        """Settle a step, unless it is settled or another worker has it."""

    def failed(self, marker: Marker, worker: str, reason: str) -> bool:
        """Settle a step as failed, likewise."""

    def put_off(self, marker: Marker, worker: str, reason: str, seconds: float) -> bool:
        """Give a step back, not to be taken before ``seconds`` are over; the attempt does not
        count."""

    def has_open_steps(self, uid: str) -> bool:
        """Return whether a step is ready or running."""

    def has_failed_steps(self, uid: str) -> bool:
        """Return whether a step has failed."""

    def results(self, uid: str) -> Iterable[StepResult]:
        """Yield the results of the steps that are done."""

    def finish(self, uid: str, worker: str, state: str, total: StepResult) -> bool:
        """End a backfill that is ours and runs."""

    def log(self, uid: str, text: str) -> None:
        """Add a line to its log, which keeps the last ones."""


def added(results: Iterable[StepResult]) -> StepResult:
    """Return results added up, their digests too."""
    rows_read = rows_written = rows_present = rows_refused = size = 0
    source = target = ""
    notes: list[str] = []
    for result in results:
        rows_read += result.rows_read
        rows_written += result.rows_written
        rows_present += result.rows_present
        rows_refused += result.rows_refused
        size += result.bytes
        source = digest_sum(source, result.source_digest)
        target = digest_sum(target, result.target_digest)
        if len(notes) < NOTES_KEPT:
            notes.extend(result.notes[: NOTES_KEPT - len(notes)])
    return StepResult(
        rows_read=rows_read,
        rows_written=rows_written,
        rows_present=rows_present,
        rows_refused=rows_refused,
        bytes=size,
        source_digest=source,
        target_digest=target,
        notes=tuple(notes),
    )
