"""What code calls to hand over an event, and the process-wide state behind it."""

from __future__ import annotations

import atexit
import functools
import inspect
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

from . import ledger, process_ends
from .buffer import Buffer
from .config import Config
from .context import SUPPRESSED, current_trace
from .event import Value
from .flusher import Flusher

logger = logging.getLogger("tailrace")

Finish = Callable[[Any], tuple[dict[str, str], dict[str, Value]]]
"""Makes an event's tags and fields of what a recorder kept; runs on the flusher's thread."""

_Wrapped = TypeVar("_Wrapped", bound=Callable[..., Any])


class _Process:
    """This process's buffer and flusher."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.buffer = Buffer(config)
        self.flusher = Flusher(config, self.buffer)
        self.pid = os.getpid()
        self.append = self._append_first

    def _append_first(self, event: tuple[Any, ...]) -> None:
        """Append, and start the flusher; from then on, appending is all there is to do."""
        if self.pid != os.getpid():
            # A fork that ran no hooks, as uWSGI's: number what is sent as a process of our own.
            _after_fork_in_child()
            if _process is not None:
                _process.append(event)
            return
        self.append = self.buffer.append
        self.buffer.append(event)
        self.flusher.start()


_process: _Process | None = None


def configure(config: Config | None) -> None:
    """Make ``config`` count in this process.

    What was recorded under an earlier configuration is sent first. ``None``, or a
    configuration with ``enabled`` off, makes recording a no-op.
    """
    global _process
    close()
    _process = _Process(config) if config is not None and config.enabled else None
    if _process is not None:
        process_ends.follow(flush, close)
        process_ends.follow_uwsgi(_after_fork_in_child)


def configured() -> Config | None:
    """Return the configuration that counts, or ``None`` while nothing is recorded."""
    return _process.config if _process else None


def record(
    measurement: str,
    *,
    tags: Mapping[str, str] | None = None,
    fields: Mapping[str, Value] | None = None,
    time: datetime | int | None = None,
    trace_id: str | None = None,
) -> None:
    """Hand over one event. Never raises, never waits for I/O; about a microsecond.

    What cannot be stored (a NaN, an integer beyond 64 bits, a naive time) becomes a dead
    letter that names the reason; what is too long is cut and counted.

    Args:
        measurement: Name of the family of events, 1 to 100 characters.
        tags: What to group and filter by: strings with few distinct values each.
        fields: What was measured: numbers, booleans and strings.
        time: When it happened: an aware datetime, or integer nanoseconds since 1970. Now,
            where it is left out.
        trace_id: The trace it belongs to; by default that of the current request.
    """
    process = _process
    if process is None:
        return
    current = current_trace()
    if current is SUPPRESSED:
        return
    process.append(
        (
            measurement,
            _now_ns() if time is None else time,
            # Copies: the caller may go on to change its dicts.
            tags.copy() if tags.__class__ is dict else _copy(tags),
            fields.copy() if fields.__class__ is dict else _copy(fields),
            current if trace_id is None else trace_id,
        )
    )


def emit(measurement: str, time_ns: int, finish: Finish, raw: Any, trace_id: str | None) -> None:
    """Hand over an event whose tags and fields are made later; for recorders.

    Args:
        measurement: Name of the family of events.
        time_ns: When it happened, in nanoseconds since 1970.
        finish: Called with ``raw`` on the flusher's thread; returns tags and fields.
        raw: Whatever ``finish`` needs. It must not keep requests, connections, models or
            tracebacks alive.
        trace_id: The trace it belongs to, if any.
    """
    process = _process
    if process is None:
        return
    process.append((measurement, time_ns, finish, raw, trace_id))


def count_recorder_error(measurement: str) -> None:
    """Count an event that was lost because its recorder failed."""
    if _process is not None:
        _process.buffer.count_lost(ledger.DROPPED_RECORDER_ERROR, measurement)


class timed:
    """Record how long a block, or a function, took.

    The event has the field ``duration_ms`` and the tag ``status``: ``ok``, or ``error`` with
    the exception's class as the tag ``error``; the exception goes on.

    ::

        with timed("pdf.render", tags={"kind": "invoice"}): ...

        @timed("pdf.render")
        def render(): ...
    """

    def __init__(
        self,
        measurement: str,
        *,
        tags: Mapping[str, str] | None = None,
        fields: Mapping[str, Value] | None = None,
    ) -> None:
        self._measurement = measurement
        self._tags = tags
        self._fields = fields

    def __enter__(self) -> timed:
        self._started_ns = time.perf_counter_ns()
        self._time_ns = time.time_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        duration_ms = (time.perf_counter_ns() - self._started_ns) / 1e6
        outcome = {"status": "ok"} if kind is None else {"status": "error", "error": kind.__name__}
        record(
            self._measurement,
            tags={**(self._tags or {}), **outcome},
            fields={**(self._fields or {}), "duration_ms": duration_ms},
            time=self._time_ns,
        )

    def __call__(self, function: _Wrapped) -> _Wrapped:
        if _is_coroutine_function(function):

            @functools.wraps(function)
            async def measure_async(*args: Any, **kwargs: Any) -> Any:
                with timed(self._measurement, tags=self._tags, fields=self._fields):
                    return await function(*args, **kwargs)

            return measure_async  # type: ignore[return-value]

        @functools.wraps(function)
        def measure(*args: Any, **kwargs: Any) -> Any:
            # A fresh timer each call: the function may run in many threads, or recurse.
            with timed(self._measurement, tags=self._tags, fields=self._fields):
                return function(*args, **kwargs)

        return measure  # type: ignore[return-value]


def flush(timeout_seconds: float = 5.0) -> bool:
    """Send what this process has recorded so far, now.

    Returns:
        Whether all of it is in Redis. ``False``: it waits in the spool, or the flusher was
        busy for ``timeout_seconds``.
    """
    return _process.flusher.flush(timeout_seconds) if _process is not None else True


def close() -> None:
    """Send or spool what is left and stop recording in this process; for its very end."""
    global _process
    process, _process = _process, None
    if process is not None:
        process.flusher.close(process.config.exit_deadline_seconds)


def _copy(mapping: Any) -> Any:
    if not mapping:
        return {} if mapping is None or isinstance(mapping, Mapping) else mapping
    try:
        return mapping.copy()
    except Exception:  # noqa: BLE001 - not a dict: the flusher makes a dead letter of it
        return mapping


def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)


def _after_fork_in_child() -> None:
    """Start afresh: the parent still has, and sends, what its buffer holds."""
    global _process
    if _process is not None and _process.pid != os.getpid():
        _process.flusher.after_fork_in_child()
        _process = _Process(_process.config)


_now_ns = time.time_ns
os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(close)
