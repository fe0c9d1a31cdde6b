"""Regular work that one process at a time does: leases, and a record of each run.

A lease is a row of the model ``Job`` with an owner and a time until which it is theirs. It is
taken and given back in transactions of a few milliseconds; nothing is locked while the work goes
on. Who dies, even by SIGKILL, loses it by the time that passes; who was only slow notices that
it is somebody else's by now. So work that must not be done twice at once asks
:meth:`Lease.is_ours` before each slice, and each slice is right by itself, by the transaction
that it is in: a lease saves double work, as those of the drain do, and nothing depends on it.

Clocks of several hosts may be apart by less than ``LEASE_SECONDS``.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from django.apps import apps
from django.db import transaction

from tailrace.pipeline.errors import BackendError, TransientBackendError
from tailrace.pipeline.faults import fault

from .django_errors import translated_errors
from .private_connection import private_connection

logger = logging.getLogger("tailrace")

LEASE_SECONDS = 60.0
"""How long after the death of a process another one takes its work over."""
RUNS_KEPT = 20
_TEXT_MAX_CHARS = 500
_RENEW_AFTER = 1 / 3
_EARLY = 0.1
"""Share of an interval by which a run may come early: beat is not exact."""

KILLED = "the process ended in the middle of it"


class LeaseLost(TransientBackendError):
    """Another process has taken our work over: we were too slow, or our clock is wrong."""


class Run(msgspec.Struct, kw_only=True):
    """One run of a job."""

    started_us: int
    """When it began, in microseconds since 1970."""
    seconds: float | None = None
    """How long it took; ``None`` while it goes on, and where the process was killed."""
    rows: int = 0
    """How many rows it wrote or deleted."""
    is_unfinished: bool = False
    """Whether its time was up before its work was done."""
    error: str = ""
    detail: str = ""
    """What it did, in a sentence."""


class JobState(msgspec.Struct, kw_only=True):
    """What there is to know of a job."""

    name: str
    is_running: bool
    owner: str
    runs: list[Run]
    """The latest ones, the newest first."""


class Lease:
    """The right to do a job, and the record of what was done; see :meth:`Jobs.lease`."""

    def __init__(self, jobs: Jobs, name: str, owner: str, seconds: float) -> None:
        self._jobs = jobs
        self._seconds = seconds
        self._renewed = time.monotonic()
        self.name = name
        self.owner = owner
        self.rows = 0
        """Add to it what was written or deleted."""
        self.is_unfinished = False
        """Set it where time was up before the work was done: the job is then due at once."""
        self._details: list[str] = []

    def say(self, detail: str) -> None:
        """Add a sentence to the record of this run."""
        self._details.append(detail)

    @property
    def detail(self) -> str:
        """What was said, in one line."""
        return "; ".join(self._details)

    def is_ours(self) -> bool:
        """Return whether the work may go on; renews the lease when a third of it has passed."""
        if time.monotonic() - self._renewed < self._seconds * _RENEW_AFTER:
            return True
        return self.renew()

    def check(self) -> None:
        """Do what :meth:`is_ours` does.

        Raises:
            LeaseLost: the work may not go on.
        """
        if not self.is_ours():
            raise LeaseLost(f"job {self.name!r} was taken over by another process")

    def renew(self) -> bool:
        """Have the lease from now on for its full time; return whether it is still ours."""
        before = time.monotonic()
        if not self._jobs.renew(self.name, self.owner, self._seconds):
            return False
        self._renewed = before
        return True


class Jobs:
    """The jobs of one backend, in its own database."""

    def __init__(self, backend: str, using: str) -> None:
        """Connect to nothing yet.

        Args:
            backend: The backend's alias.
            using: Its database's.
        """
        self._backend = backend
        self._using = using

    @contextmanager
    def lease(
        self, name: str, *, seconds: float = LEASE_SECONDS, every_seconds: float = 0.0
    ) -> Iterator[Lease | None]:
        """Hold a job's lease within the block, and record the run when it ends.

        An error is recorded, too, and goes on.

        Args:
            name: The job's.
            seconds: How long the lease is ours without being renewed.
            every_seconds: Not again before so long after the last run began, unless that one
                failed, died or was not done.

        Yields:
            The lease; ``None`` where another process has it, or the job is not due: do nothing
            then.

        Raises:
            TransientBackendError, BackendMisconfigured: see ``base.py``.
        """
        owner = f"{socket.gethostname()[:30]}:{os.getpid()}:{secrets.token_hex(6)}"
        run = Run(started_us=now_us())
        started = time.monotonic()
        if not self._take(name, owner, run, seconds, every_seconds):
            yield None
            return
        lease = Lease(self, name, owner, seconds)
        fault("job_taken")
        try:
            yield lease
        except BaseException as error:
            run.error = _short(f"{type(error).__name__}: {error}")
            raise
        finally:
            run.seconds = round(time.monotonic() - started, 3)
            run.rows, run.is_unfinished = lease.rows, lease.is_unfinished
            run.detail = _short(lease.detail)
            self._end(name, owner, run)

    def renew(self, name: str, owner: str, seconds: float) -> bool:
        """Prolong a lease that is still its owner's; return whether it was."""
        with self._connected():
            mine = self._rows().filter(name=name, owner=owner)
            return bool(mine.update(expires_us=now_us() + int(seconds * 1e6)))

    def all(self) -> list[JobState]:
        """Return the jobs that ever ran, by name."""
        now = now_us()
        with self._connected():
            return [
                JobState(
                    name=row.name,
                    is_running=bool(row.owner) and row.expires_us > now,
                    owner=row.owner,
                    runs=_runs(row),
                )
                for row in self._rows().order_by("name")
            ]

    # --- inside

    def _take(self, name: str, owner: str, run: Run, seconds: float, every: float) -> bool:
        with self._connected():
            row = self._rows().filter(name=name).first()
            # Looked at without a lock first: most beats of several find nothing to do.
            if row is not None and not _is_due(row, run.started_us, every):
                return False
            if row is None:
                made = self._model()(backend=self._backend, name=name)
                self._rows().bulk_create([made], ignore_conflicts=True)
            with transaction.atomic(using=self._using):
                row = self._rows().select_for_update().get(name=name)
                if not _is_due(row, run.started_us, every):
                    return False
                runs = _runs(row)
                if runs and runs[0].seconds is None and not runs[0].error:
                    runs[0].error = KILLED
                row.owner, row.expires_us = owner, run.started_us + int(seconds * 1e6)
                row.runs = _as_text([run, *runs])
                row.save(using=self._using)
            return True

    def _end(self, name: str, owner: str, run: Run) -> None:
        """Give the lease back and record the run; where that fails, the lease runs out."""
        try:
            with self._connected(), transaction.atomic(using=self._using):
                row = self._rows().select_for_update().filter(name=name).first()
                if row is None:
                    return
                others = [each for each in _runs(row) if each.started_us != run.started_us]
                if row.owner == owner:
                    row.owner, row.expires_us = "", 0
                elif not run.error:
                    run.error = "the lease ran out before it was done"
                row.runs = _as_text(sorted([run, *others], key=lambda each: -each.started_us))
                row.save(using=self._using)
        except BackendError as error:
            logger.warning("the end of job %r could not be noted: %s", name, error)

    def _model(self) -> Any:
        return apps.get_model("tailrace", "Job")

    def _rows(self) -> Any:
        return self._model().objects.using(self._using).filter(backend=self._backend)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        with translated_errors(self._using), private_connection(self._using):
            yield


def now_us() -> int:
    """Return the present, in microseconds since 1970."""
    return time.time_ns() // 1_000


def _is_due(row: Any, now: int, every_seconds: float) -> bool:
    if row.owner and row.expires_us > now:
        return False
    last = next(iter(_runs(row)), None)
    if last is None or last.error or last.is_unfinished or last.seconds is None:
        return True
    # A run that began in the future began by another clock, or by ours before it was set right.
    passed = now - last.started_us
    return passed < 0 or passed >= every_seconds * (1 - _EARLY) * 1e6


def _runs(row: Any) -> list[Run]:
    try:
        return msgspec.json.decode(row.runs, type=list[Run])
    except msgspec.DecodeError as error:
        logger.warning("runs of job %r cannot be read, and start anew: %s", row.name, error)
        return []


def _as_text(runs: list[Run]) -> str:
    return msgspec.json.encode(runs[:RUNS_KEPT]).decode()


def _short(text: str) -> str:
    clean = " ".join(text.replace("\0", "").split())
    return clean if len(clean) <= _TEXT_MAX_CHARS else f"{clean[:_TEXT_MAX_CHARS]}..."
