"""What the code that runs now belongs to: a trace, or nothing at all.

One context variable says both, so that the request path pays for one look-up: it holds the
trace id of the request or task at hand, ``None`` outside of one, or ``SUPPRESSED`` while
recording is off. Context variables follow a request through threads and coroutines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token

SUPPRESSED = "suppressed"
"""Marks a context in which nothing is recorded. Compare with ``is``."""

_current: ContextVar[str | None] = ContextVar("tailrace_trace", default=None)

current_trace = _current.get
"""Return the trace id of this context, ``None``, or ``SUPPRESSED``."""

# https://www.w3.org/TR/trace-context/#traceparent-header: version, trace id, parent id, flags.
# Later versions may append fields; version ff and all-zero ids are invalid.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?\Z"
)


def new_trace_id() -> str:
    """Return a fresh trace id: 32 hexadecimal digits."""
    # From the system: the global generator may have been seeded, or have come through a fork
    # that ran no hooks, and then two processes would count through the same ids.
    return os.urandom(16).hex()


def parse_traceparent(header: str | None) -> tuple[str, str] | None:
    """Read a W3C ``traceparent`` header.

    Args:
        header: The header's value, or ``None`` where there was none.

    Returns:
        ``(trace_id, parent_span_id)``, or ``None`` for anything that is not valid; the
        specification asks to start a new trace then.
    """
    if not header:
        return None
    match = _TRACEPARENT.match(header.strip())
    if match is None or (header.startswith("00") and len(header.strip()) != 55):
        return None
    return match.group(1), match.group(2)


def enter_trace(trace_id: str | None) -> Token[str | None]:
    """Make ``trace_id`` the current trace; undo with :func:`leave_trace`."""
    return _current.set(trace_id)


def leave_trace(token: Token[str | None]) -> None:
    """Restore what was current before the :func:`enter_trace` that gave ``token``."""
    _current.reset(token)


@contextmanager
def suppress_recording() -> Iterator[None]:
    """Record nothing inside this block, in this thread or task.

    Tailrace wraps its own SQL, Redis calls and tasks in it, so that it never observes
    itself. It nests, and works as a decorator.
    """
    token = _current.set(SUPPRESSED)
    try:
        yield
    finally:
        _current.reset(token)
