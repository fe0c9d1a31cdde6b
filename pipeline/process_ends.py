"""The ends of processes, and their beginnings, that Python's own hooks do not see.

``atexit`` runs when a process ends by itself, as under gunicorn and Celery. It does not run
where SIGTERM is left to the system: in scripts, and in uvicorn, which raises the signal once
more when it is done. uWSGI forks without Python's fork hooks unless it is told otherwise.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

_FLUSH_SECONDS = 1.0
_UVICORN = "uvicorn."


def follow(flush: Callable[[float], bool], close: Callable[[], None]) -> None:
    """See to it that SIGTERM costs no event.

    Args:
        flush: Sends what is buffered now, within some seconds.
        close: Sends all and stops; for the very end.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may set handlers
    current = signal.getsignal(signal.SIGTERM)
    if current is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _ending(close))
    elif _is_uvicorns(current):
        signal.signal(signal.SIGTERM, _flushing(flush, current))  # type: ignore[arg-type]


def _ending(close: Callable[[], None]) -> Handler:
    def end(number: int, frame: FrameType | None) -> None:
        close()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    return end


def _flushing(flush: Callable[[float], bool], shut_down: Handler) -> Handler:
    """Keep flushing while uvicorn ends: its last act leaves no time to."""

    def hurry() -> None:
        while True:
            flush(_FLUSH_SECONDS)
            _PAUSE.wait(0.005)

    def begin_to_end(number: int, frame: FrameType | None) -> None:
        flush(_FLUSH_SECONDS)
        threading.Thread(target=hurry, name="tailrace-last-flushes", daemon=True).start()
        shut_down(number, frame)

    return begin_to_end


def _is_uvicorns(handler: Any) -> bool:
    owner = getattr(handler, "__self__", None)
    return callable(handler) and type(owner).__module__.startswith(_UVICORN)


def follow_uwsgi(after_fork: Callable[[], None]) -> None:
    """Have ``after_fork`` called in each worker of uWSGI; elsewhere, do nothing."""
    with contextlib.suppress(ImportError):
        import uwsgi  # there is such a module inside uWSGI only

        earlier = getattr(uwsgi, "post_fork_hook", None)

        def hook() -> None:
            after_fork()
            if earlier is not None:
                earlier()

        uwsgi.post_fork_hook = hook


_PAUSE = threading.Event()
