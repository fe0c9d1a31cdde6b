"""Takes the steps of backfills and runs them; any number of engines may, on any host.

Who takes a step holds it by a lease. Leases only save double work: that a step done twice is
the same as one done once is the sink's part (``contracts.py``), so a worker that comes back
from the dead changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Literal

from msgspec import structs

from tailrace.pipeline.context import suppress_recording
from tailrace.pipeline.errors import TailraceError, TransientBackendError
from tailrace.pipeline.faults import fault

from . import parameters
from .contracts import BackfillStopped, Kind, Marker, Step, StepResult, Values
from .records import DONE, FAILED, RUNNING, Record, Store, added
from .throttle import Throttle

logger = logging.getLogger("tailrace")

LEASE_SECONDS = 30.0
"""A worker that is not heard of for so long is dead, and its step is taken again."""
ATTEMPTS_MAX = 10
"""So often a step may kill its worker before it counts as failed."""
PUT_OFF_SECONDS = 5.0
"""Before a step is tried again whose storage was down."""
_PLAN_BATCH_SLICES = 200
_RENEW_SECONDS = 5.0
_LOOK_SECONDS = 1.0

Outcome = Literal["ended", "waiting", "more"]


class Engine:
    """Works on backfills, one step at a time."""

    def __init__(
        self,
        store: Store,
        kinds: Mapping[str, Kind],
        throttle: Throttle,
        worker: str,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Prepare; nothing is connected to yet.

        Args:
            store: Where backfills are kept.
            kinds: What can be done, by name.
            throttle: Lets live traffic go first.
            worker: This worker's name, which no other has: host, process, thread.
            lease_seconds: See :data:`LEASE_SECONDS`.
        """
        self._store = store
        self._kinds = kinds
        self._throttle = throttle
        self._worker = worker
        self._lease_seconds = lease_seconds

    def work(self, uid: str, seconds: float, on_step: Callable[[], None] = lambda: None) -> Outcome:
        """Work on a backfill for a while.

        Args:
            uid: Which.
            seconds: No step starts after this time.
            on_step: Called after each step.

        Returns:
            ``ended`` where there is nothing to do any more (done, failed, paused, cancelled);
            ``waiting`` where other workers have all that is left, or it has to wait; ``more``
            where the time was up.

        Raises:
            BackendError: the store cannot be asked; nothing is lost, come back later.
        """
        deadline = time.monotonic() + seconds
        with suppress_recording():
            while True:
                outcome = self._next(uid)
                on_step()
                if outcome != "more" or time.monotonic() >= deadline:
                    return outcome

    def _next(self, uid: str) -> Outcome:
        """Do the next thing that there is to do."""
        record = self._store.get(uid)
        if record is None or record.state != RUNNING:
            return "ended"
        try:
            kind, values = self._understood(record)
        except TailraceError as error:
            self._give_up(record, str(error))
            return "ended"
        if not record.is_planned:
            return self._plan(record, kind, values)
        if record.is_throttled and (reason := self._wait(uid)):
            self._store.log(uid, reason)
        step = self._store.claim(record, self._worker, self._lease_seconds)
        if step is not None:
            self._run(kind, values, step)
            return "more"
        if self._store.has_open_steps(uid):
            return "waiting"
        return self._finish(record, kind, values)

    def _understood(self, record: Record) -> tuple[Kind, Values]:
        kind = self._kinds.get(record.kind)
        if kind is None:
            known = ", ".join(sorted(self._kinds))
            raise TailraceError(f"there is no kind {record.kind!r} here; there are: {known}")
        return kind, parameters.from_json(kind.parameters(), record.values)

    def _wait(self, uid: str) -> str:
        looked = time.monotonic()

        def look() -> None:
            nonlocal looked
            if time.monotonic() - looked >= _LOOK_SECONDS:
                looked = time.monotonic()
                if self._store.state(uid) != RUNNING:
                    raise BackfillStopped("it does not run any more")

        try:
            return self._throttle.wait(look)
        except BackfillStopped:
            return ""

    # --- plan

    def _plan(self, record: Record, kind: Kind, values: Values) -> Outcome:
        """Store the steps. Until all are there none is run, so a killed planner starts again."""
        uid, number = record.uid, 0
        if not self._store.claim_whole(uid, self._worker, self._lease_seconds):
            return "waiting"
        try:
            self._store.forget_plan(uid)
            slices = iter(kind.plan(values))
            while some := list(islice(slices, _PLAN_BATCH_SLICES)):
                if not self._store.add_steps(uid, self._worker, number, some, self._lease_seconds):
                    return "waiting"
                number += len(some)
                fault("backfill_mid_plan")
            if self._store.planned(uid, self._worker):
                self._store.log(uid, f"planned {number} steps")
        except TransientBackendError as error:
            self._store.log(uid, f"planning is put off: {error}")
            return "waiting"
        except TailraceError as error:
            self._give_up(record, f"it could not be planned: {error}")
            return "ended"
        finally:
            self._store.release_whole(uid, self._worker)
        return "more"

    def _give_up(self, record: Record, reason: str) -> None:
        logger.error("backfill %s (%s): %s", record.uid, record.kind, reason)
        self._store.log(record.uid, reason)
        if self._store.claim_whole(record.uid, self._worker, self._lease_seconds):
            self._store.finish(record.uid, self._worker, FAILED, StepResult(notes=(reason,)))

    # --- run

    def _run(self, kind: Kind, values: Values, step: Step) -> None:
        marker, what = step.marker, f"step {step.marker.number} ({step.slice.label})"
        fault("backfill_after_claim")
        if step.attempt > ATTEMPTS_MAX:
            reason = f"its workers have died {ATTEMPTS_MAX} times; is a slice too large for them?"
            self._fail(marker, what, reason)
            return
        context = _Context(self._store, marker, values, self._worker, self._lease_seconds)
        started = time.monotonic()
        try:
            result = kind.run(context, step.slice)
        except BackfillStopped:
            self._store.put_off(marker, self._worker, "", 0.0)
        except TransientBackendError as error:
            seconds = max(PUT_OFF_SECONDS, error.retry_after_seconds)
            if self._store.put_off(marker, self._worker, str(error), seconds):
                self._store.log(marker.backfill, f"{what} is put off for {seconds:.0f} s: {error}")
        except (TailraceError, OSError) as error:
            self._fail(marker, what, str(error))
        except Exception as error:
            # A kind's bug must not look like a dead worker, and be tried ten times.
            logger.exception("backfill %s: %s failed", marker.backfill, what)
            self._fail(marker, what, f"{type(error).__name__}: {error}")
        else:
            self._settle(marker, what, result)
            self._throttle.note(result.rows_read, time.monotonic() - started)

    def _settle(self, marker: Marker, what: str, result: StepResult) -> None:
        fault("backfill_before_done")
        if not result.is_equal:
            differing = f"the ends differ: {result.source_digest} and {result.target_digest}"
            self._fail(marker, what, "; ".join((differing, *result.notes)))
            return
        if self._store.done(marker, self._worker, result):
            for note in result.notes:
                self._store.log(marker.backfill, f"{what}: {note}")
        fault("backfill_after_done")

    def _fail(self, marker: Marker, what: str, reason: str) -> None:
        if self._store.failed(marker, self._worker, reason):
            self._store.log(marker.backfill, f"{what} failed: {reason}")

    # --- finish

    def _finish(self, record: Record, kind: Kind, values: Values) -> Outcome:
        uid = record.uid
        if not self._store.claim_whole(uid, self._worker, self._lease_seconds):
            return "waiting"
        try:
            total = added(self._store.results(uid))
            has_failures = self._store.has_failed_steps(uid)
            notes = () if has_failures else tuple(kind.finish(values, total))
            fault("backfill_before_finish")
            state = FAILED if has_failures else DONE
            ended = structs.replace(total, notes=(*total.notes, *notes))
            if self._store.finish(uid, self._worker, state, ended):
                failed = "; some steps failed, and can be retried" if has_failures else ""
                self._store.log(uid, f"{state}: {total.rows_written} written{failed}")
                for note in notes:
                    self._store.log(uid, note)
        except TransientBackendError as error:
            self._store.log(uid, f"the end is put off: {error}")
            return "waiting"
        except TailraceError as error:
            self._give_up(record, f"it could not be brought to an end: {error}")
        finally:
            self._store.release_whole(uid, self._worker)
        return "ended"


class _Context:
    """What a step sees of the engine."""

    def __init__(
        self, store: Store, marker: Marker, values: Values, worker: str, lease_seconds: float
    ) -> None:
        self.marker = marker
        self.values = values
        self._store = store
        self._worker = worker
        self._lease_seconds = lease_seconds
        self._renewed = self._looked = time.monotonic()

    def alive(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            if self._store.state(self.marker.backfill) != RUNNING:
                raise BackfillStopped("it does not run any more")
        if now - self._renewed >= min(_RENEW_SECONDS, self._lease_seconds / 3):
            self._renewed = now
            if not self._store.renew(self.marker, self._worker, self._lease_seconds):
                raise BackfillStopped("another worker has this step")

    def log(self, text: str) -> None:
        self._store.log(self.marker.backfill, text)
