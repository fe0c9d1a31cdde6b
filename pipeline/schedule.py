"""Beat's entries: they register themselves in whatever Celery app runs beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import current_app, signals

from .backfill.running import LOOK_SECONDS
from .quiet_ticks import keep_quiet
from .recording import close
from .runtime import Runtime, runtime
from .tasks import BACKFILLS, CHORE, DRAIN, TICK

# https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
_DEFAULT_VISIBILITY_SECONDS = 3600.0


def entries(process: Runtime) -> dict[str, dict[str, Any]]:
    """Return Tailrace's entries for ``beat_schedule``.

    Each expires before the next one but one is due, so that a worker that comes back finds
    one tick and not a night's worth of them.
    """
    found = {TICK: _entry(TICK, process.config.drain_interval_seconds, process.config.queue)}
    found[BACKFILLS] = _entry(BACKFILLS, LOOK_SECONDS, process.config.queue)
    for name, chore in process.chores.items():
        entry = _entry(CHORE, chore.every_seconds, process.config.queue)
        found[f"tailrace.{name}"] = {**entry, "args": (name,)}
    return found


def _entry(task: str, every_seconds: float, queue: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {"expires": max(2.0, 2 * every_seconds)}
    if queue:
        options["queue"] = queue
    return {"task": task, "schedule": every_seconds, "options": options}


def connect() -> None:
    """Take part in every Celery app of this process: beat's schedule, workers' logs and end."""
    keep_quiet((TICK, DRAIN, CHORE, BACKFILLS))
    # Sent before the first tick, by `worker -B` too.
    signals.beat_init.connect(_on_beat_init, dispatch_uid="tailrace.beat_init")
    # Prefork children end without atexit handlers.
    signals.worker_process_shutdown.connect(_on_worker_exit, dispatch_uid="tailrace.exit")


def before_each_task(call: Callable[..., object]) -> None:
    """Have ``call`` called, with keyword arguments, before each task of a worker."""
    signals.task_prerun.connect(call, weak=False, dispatch_uid=f"tailrace.{call.__name__}")


def _on_beat_init(sender: Any, **kwargs: object) -> None:
    """Add our entries, unless the host has its own under the same names.

    The scheduler has read ``beat_schedule`` by now; it takes more the way it takes Celery's
    own clean-up entry, whichever scheduler class it is.
    """
    own = sender.app.conf.beat_schedule or {}
    ours = entries(runtime())
    sender.scheduler.update_from_dict({n: entry for n, entry in ours.items() if n not in own})


def _on_worker_exit(**kwargs: object) -> None:
    close()


def broker_visibility_seconds() -> float | None:
    """Return after which time the host's broker delivers an unfinished task again.

    ``None`` where there is no such time: only the Redis and SQS transports have one.
    """
    app = current_app
    if not str(app.conf.broker_url or "").startswith(("redis", "rediss", "sentinel", "sqs")):
        return None
    options = app.conf.broker_transport_options or {}
    return float(options.get("visibility_timeout", _DEFAULT_VISIBILITY_SECONDS))
