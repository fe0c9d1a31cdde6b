"""Backfills, as the admin, the command and Python start, watch and stop them.

::

    from tailrace.django_integration.backfills import service

    preview = service.preview("copy", {"source": "default", "target": "timescale",
                                       "measurement": "request"})
    uid = service.start("copy", preview.values, created_by="anna")
    service.progress(uid).fraction

Workers take its steps: Celery's, or ``service.work(uid)`` in this process.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS

from tailrace.backends import get_storage_db_alias
from tailrace.pipeline.backfill import parameters
from tailrace.pipeline.backfill.contracts import BackfillRefused, Estimate, Kind
from tailrace.pipeline.backfill.engine import LEASE_SECONDS, Engine, Outcome
from tailrace.pipeline.backfill.records import CANCELLED, FAILED, PAUSED, RUNNING, Record, Tally
from tailrace.pipeline.backfill.throttle import Throttle, live_lag_seconds
from tailrace.pipeline.context import suppress_recording
from tailrace.pipeline.runtime import runtime

from .kinds import kind_of, kinds
from .reports import Preview, Progress
from .store import OrmStore

__all__ = [
    "BackfillRefused",
    "Preview",
    "Progress",
    "cancel",
    "kinds",
    "pause",
    "preview",
    "progress",
    "recent",
    "resume",
    "retry",
    "start",
    "store",
    "work",
]

WORKERS = 2
WORKERS_MAX = 64
LEASE_VARIABLE = "TAILRACE_BACKFILL_LEASE_SECONDS"
"""For tests that kill workers, and cannot wait half a minute for each."""


def store() -> OrmStore:
    """Return where backfills are kept: on the alias of the backend ``default``, or of the first
    one that has an alias, as the rest of Tailrace's tables."""
    aliases = sorted(runtime().aliases, key=lambda alias: alias != "default")
    for alias in aliases:
        if (using := _db_alias(alias)) in settings.DATABASES:
            return OrmStore(str(using))
    return OrmStore(DEFAULT_DB_ALIAS)


def preview(kind_name: str, given: Mapping[str, Any]) -> Preview:
    """Say what a backfill would do; store nothing.

    Args:
        kind_name: The kind.
        given: Parameters, as texts or typed.

    Raises:
        ParameterError: parameters are wrong; ``problems`` says which.
        BackfillRefused: it could not start; the text says why, and what to change.
        BackendError: a storage cannot be asked now.
    """
    kind = kind_of(kind_name)
    values = parameters.parse(kind.parameters(), given)
    with suppress_recording():
        kind.check(values)
        return Preview(kind=kind_name, values=values, estimate=kind.estimate(values))


def start(
    kind_name: str,
    given: Mapping[str, Any],
    *,
    created_by: str = "",
    workers: int = WORKERS,
    is_throttled: bool = True,
    estimate: Estimate | None = None,
    uid: str = "",
) -> str:
    """Start a backfill; workers take it from now on.

    Args:
        kind_name: The kind.
        given: Parameters, as texts or typed.
        created_by: Who starts it, for the record.
        workers: How many steps may run at once, on all hosts together.
        is_throttled: Whether live traffic goes first.
        estimate: Of a preview that was just made, to spare another one.
        uid: Its uid-to-be, 32 hexadecimal digits, so that a form that is sent twice starts one.

    Returns:
        Its uid.

    Raises:
        ParameterError, BackfillRefused, BackendError: as :func:`preview`; nothing is stored.
    """
    if not 1 <= workers <= WORKERS_MAX:
        raise BackfillRefused(f"{workers} workers: choose 1 to {WORKERS_MAX}")
    kind = kind_of(kind_name)
    values = parameters.parse(kind.parameters(), given)
    with suppress_recording():
        kind.check(values)
        expected = estimate if estimate is not None else kind.estimate(values)
    uid = uid or uuid.uuid4().hex
    kept = store()
    kept.create(
        uid,
        kind=kind_name,
        parameters=parameters.to_json(values),
        estimate=msgspec.json.encode(expected).decode(),
        created_by=created_by[:150],
        workers=workers,
        is_throttled=is_throttled,
    )
    kept.log(uid, f"started by {created_by or 'nobody known'}: {kind.title.lower()}")
    return uid


def pause(uid: str, by: str = "") -> bool:
    """Pause: steps that run come to their end, or are given back within a second or so.

    Returns:
        Whether it ran; two people at once pause it once.
    """
    return _change(uid, (RUNNING,), PAUSED, by)


def resume(uid: str, by: str = "") -> bool:
    """Go on after a pause; returns whether it was paused."""
    return _change(uid, (PAUSED,), RUNNING, by)


def cancel(uid: str, by: str = "") -> bool:
    """End it for good; what is done stays. Returns whether it had not ended before."""
    return _change(uid, (RUNNING, PAUSED, FAILED), CANCELLED, by)


def retry(uid: str, by: str = "") -> int:
    """Have failed steps done again; returns how many."""
    kept = store()
    count = kept.retry_failed(uid)
    if count:
        kept.log(uid, f"{count} failed steps are tried again{_by(by)}")
    return count


def progress(uid: str) -> Progress | None:
    """Return how far a backfill has come; ``None`` if there is none of this uid."""
    kept = store()
    row = kept.row(uid)
    record = kept.get(uid)
    if row is None or record is None:
        return None
    tally = kept.tally(uid)
    return Progress(
        record=record,
        title=_title(record.kind),
        values=msgspec.json.decode(row.parameters),
        estimate=msgspec.json.decode(row.estimate or "{}", type=Estimate),
        tally=tally,
        result=msgspec.json.decode(row.result) if row.result else {},
        log=tuple(row.log.splitlines()),
        failures=tuple(kept.failures(uid)) if tally.steps.get(FAILED) else (),
        can=_possible(record, tally),
    )


def recent(limit: int = 50) -> list[Record]:
    """Return the newest backfills, the newest first."""
    return store().latest(limit)


def work(
    uid: str, seconds: float = float("inf"), on_step: Callable[[], None] = lambda: None
) -> Outcome:
    """Work on a backfill in this process; see :meth:`Engine.work`."""
    return engine().work(uid, seconds, on_step)


def engine() -> Engine:
    """Return an engine of this thread's own."""
    lease = float(os.environ.get(LEASE_VARIABLE, LEASE_SECONDS))
    throttle = _throttles.__dict__.setdefault("own", Throttle(_lag_seconds))
    return Engine(store(), kinds(), throttle, worker_name(), lease)


def worker_name() -> str:
    """Return a name that no other worker has: host, process, thread, and a part by chance."""
    if getattr(_names, "pid", None) != os.getpid():
        _names.pid, _names.token = os.getpid(), uuid.uuid4().hex[:8]
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{_names.token}"


class Running:
    """What Celery's tasks call."""

    def work(self, uid: str, seconds: float) -> Outcome:
        return work(uid, seconds)

    def wanted(self) -> list[tuple[str, int]]:
        kept = store()
        found = []
        for record in kept.running():
            open_steps = kept.free_steps(record.uid) if record.is_planned else 1
            # One more for the end, when all steps are done.
            count = min(record.workers, open_steps) or int(not kept.has_open_steps(record.uid))
            if count:
                found.append((record.uid, count))
        return found


_throttles = threading.local()
_names = threading.local()


def _lag_seconds() -> float:
    return live_lag_seconds(runtime())


def _change(uid: str, allowed: tuple[str, ...], state: str, by: str) -> bool:
    kept = store()
    if not kept.change_state(uid, allowed, state):
        return False
    kept.log(uid, f"{state}{_by(by)}")
    return True


def _by(name: str) -> str:
    return f" by {name}" if name else ""


def _possible(record: Record, tally: Tally) -> tuple[str, ...]:
    actions = {RUNNING: ("pause", "cancel"), PAUSED: ("resume", "cancel"), FAILED: ("cancel",)}
    can = actions.get(record.state, ())
    is_retried = tally.steps.get(FAILED) and record.state in (RUNNING, PAUSED, FAILED)
    return (*can, "retry") if is_retried or record.state == FAILED else can


def _title(name: str) -> str:
    kind: Kind | None = kinds().get(name)
    return kind.title if kind else name


def _db_alias(alias: str) -> str | None:
    try:
        return get_storage_db_alias(alias)
    except ImproperlyConfigured:
        return None  # a system check says so; the others' databases will do
