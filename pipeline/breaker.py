"""The circuit breaker: how often to try a Redis that does not answer."""

from __future__ import annotations

import random
import time

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0


class Breaker:
    """Closed while all is well; after a failure it lets one attempt through at a time.

    Pauses double up to 10 s. They are jittered, so that a hundred processes do not knock on
    a restarted Redis at the same moment.
    """

    def __init__(self) -> None:
        self._pause_seconds = 0.0
        self._next_attempt = 0.0
        self._random = random.Random()  # who seeds the global one counts on its numbers

    @property
    def is_open(self) -> bool:
        """Whether the last attempt failed."""
        return self._pause_seconds > 0

    def allows(self) -> bool:
        """Return whether an attempt may be made now."""
        return time.monotonic() >= self._next_attempt

    def succeeded(self) -> None:
        """Close."""
        self._pause_seconds = self._next_attempt = 0.0

    def failed(self, retry_after_seconds: float = 0.0) -> None:
        """Open, for longer each time; at least for ``retry_after_seconds``."""
        doubled = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        self._pause_seconds = max(_FIRST_PAUSE_SECONDS, doubled)
        pause = self._pause_seconds * self._random.uniform(0.5, 1.0)
        self._next_attempt = time.monotonic() + max(pause, retry_after_seconds)
