"""Named places where a test can stop the program dead.

A fault point is a comment that tests can act on: ``fault("before_commit")`` does nothing
unless the environment variable ``TAILRACE_FAULT`` names it, as ``<point>=<action>``, where
the action is ``kill`` (SIGKILL to this process), ``raise`` or ``hang``. An optional
``:<n>`` after the action lets the first ``n`` passes through.

``tests/faults`` finds all points in the source and fails when one has no case.
"""

from __future__ import annotations

import os
import signal
import time

ENVIRONMENT_VARIABLE = "TAILRACE_FAULT"
_HANG_SECONDS = 3600.0

_armed = os.environ.get(ENVIRONMENT_VARIABLE, "")
_passes = 0


class InjectedFault(RuntimeError):
    """Raised by a fault point whose action is ``raise``."""


def fault(point: str) -> None:
    """Act if ``point`` is armed, else do nothing."""
    if _armed:
        _act(point)


def _act(point: str) -> None:
    global _passes
    name, _, rest = _armed.partition("=")
    if name != point:
        return
    action, _, skip = rest.partition(":")
    _passes += 1
    if _passes <= int(skip or 0):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "hang":
        time.sleep(_HANG_SECONDS)
    else:
        raise InjectedFault(point)
