"""Waiting for a lock by asking again, not by sleeping in the server."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 0.2


def wait_for(
    take: Callable[[], bool], name: str, wait_seconds: float, on_wait: Callable[[], None]
) -> None:
    """Call `take` until it returns true.

    Args:
        take: tries to take the lock, without waiting.
        name: the lock's name, for the error.
        wait_seconds: how long to go on.
        on_wait: called once, before the first wait.

    Raises:
        TimeoutError: it never did.
    """
    deadline = time.monotonic() + wait_seconds
    if take():
        return
    on_wait()
    while not take():
        if time.monotonic() >= deadline:
            raise TimeoutError(
                f"another process has held the lock {name!r} for {wait_seconds:g} s; wait for it "
                "to end, or look for one that hangs"
            )
        time.sleep(POLL_SECONDS)
