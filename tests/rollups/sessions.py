"""Sessions that come between one another, or die, at the fault points that they pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tailrace.backends.django_errors import translated_errors
from tailrace.backends.private_connection import close_private_connections
from tailrace.pipeline import faults
from tailrace.pipeline.errors import TransientBackendError

_here = threading.local()


def _pass(point: str) -> None:
    act = acting()
    if act is not None:
        act(point)


@contextmanager
def watched() -> Iterator[None]:
    """Let :func:`armed` work, in all threads."""
    before = faults._armed, faults._act
    faults._armed, faults._act = "everywhere", _pass
    try:
        yield
    finally:
        faults._armed, faults._act = before


def acting() -> Callable[[str], None] | None:
    """Return what is called at the fault points that this thread passes."""
    return getattr(_here, "act", None)


@contextmanager
def armed(act: Callable[[str], None]) -> Iterator[None]:
    """Have a function called at every fault point that this thread passes."""
    assert faults._act is _pass, "nothing would be called"
    before = acting()
    _here.act = act
    try:
        yield
    finally:
        _here.act = before


class Sessions:
    """Threads with connections of their own."""

    def __init__(self, alias: str, count: int = 1) -> None:
        """Start none yet."""
        self._alias = alias
        self._threads = [ThreadPoolExecutor(1) for _ in range(count)]

    def do(self, *works: Callable[[], Any]) -> None:
        """Do something in each of the first threads at once, and wait for all."""
        chosen = zip(self._threads, works, strict=False)
        waiting = [thread.submit(work) for thread, work in chosen]
        errors = [each.exception(timeout=120) for each in waiting]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """Close the connections."""
        self.do(*[lambda: close_private_connections(self._alias)] * len(self._threads))
        for each in self._threads:
            each.shutdown()


def patiently(using: str, work: Callable[[], Any], attempts: int = 30) -> None:
    """Do what beat does with a transient error, such as a deadlock: try again later."""
    for attempt in range(attempts):
        try:
            with translated_errors(using):
                work()
            return
        except TransientBackendError:
            if attempt + 1 == attempts:
                raise
            time.sleep(0.005 * (attempt + 1))
