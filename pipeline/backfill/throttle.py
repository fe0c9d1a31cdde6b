"""Live traffic goes first: a backfill waits while the pipeline lags or the storage is slow."""

from __future__ import annotations

import time
from collections.abc import Callable

from tailrace.pipeline.errors import StreamUnavailable
from tailrace.pipeline.runtime import Runtime
from tailrace.pipeline.stream import START, id_seconds

LAG_PAUSE_SECONDS = 1.5
"""Above this, no step starts. A step takes a second or two, so the lag stays below 5 s."""
LAG_RESUME_SECONDS = 0.75
LAG_WAIT_MAX_SECONDS = 30.0
"""After so long it is not the backfill that holds up the drain (no worker runs, or far too
much comes in): one step is done then, and the next one waits as long again."""
SLOW_FACTOR = 3.0
"""A step that takes so many times longer a row than the best ones: the storage is busy."""
REST_MAX_SECONDS = 5.0

_LOOK_SECONDS = 0.25
_FORGET = 0.98
"""The best rate ages: what was fast in an empty table need not be reached again."""


def live_lag_seconds(process: Runtime) -> float:
    """Return the age of the oldest entry that some backend has not committed; 0.0 without one.

    Entries are trimmed once every backend has them, so that the first one tells.

    Raises:
        StreamUnavailable: Redis cannot be asked.
    """
    oldest = 0.0
    for shard in process.shards:
        if process.stream.length(shard) and (entries := process.stream.read(shard, START, 1)):
            added = id_seconds(entries[0].id)
            oldest = min(oldest, added) if oldest else added
    return max(0.0, process.stream.time() - oldest) if oldest else 0.0


class Throttle:
    """Decides when the next step may start."""

    def __init__(
        self,
        lag_seconds: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without a memory.

        Args:
            lag_seconds: Says how far behind the pipeline is.
            sleep: Waits.
            clock: Tells the time, in seconds.
        """
        self._lag_seconds = lag_seconds
        self._sleep = sleep
        self._clock = clock
        self._best_seconds_a_row: float | None = None
        self._rest_seconds = 0.0

    def wait(self, look: Callable[[], None]) -> str:
        """Wait until a step may start.

        Args:
            look: Called now and then while we wait; may raise to give up.

        Returns:
            Why we waited; empty if we did not.
        """
        rested, self._rest_seconds = self._rest_seconds, 0.0
        if rested:
            self._pause(rested, look)
        lag = self._lag()
        if lag <= LAG_PAUSE_SECONDS:
            return f"rested {rested:.1f} s, as the storage is slow" if rested >= 1 else ""
        started, worst = self._clock(), lag
        while lag > LAG_RESUME_SECONDS and self._clock() - started < LAG_WAIT_MAX_SECONDS:
            self._pause(_LOOK_SECONDS, look)
            lag = self._lag()
            worst = max(worst, lag)
        return (
            f"waited {self._clock() - started:.1f} s for live traffic, which lagged {worst:.1f} s"
        )

    def note(self, rows: int, seconds: float) -> None:
        """Learn from a step how fast the storage is.

        Args:
            rows: What it did.
            seconds: How long that took.
        """
        if rows < 100:  # too few to tell anything
            return
        took, best = seconds / rows, self._best_seconds_a_row
        self._best_seconds_a_row = took if best is None else min(took, best / _FORGET)
        if best is not None and took > SLOW_FACTOR * best:
            self._rest_seconds = min(seconds - best * rows, REST_MAX_SECONDS)

    def _lag(self) -> float:
        try:
            return self._lag_seconds()
        except StreamUnavailable:
            # Nothing is drained either, so there is nobody to make room for.
            return 0.0

    def _pause(self, seconds: float, look: Callable[[], None]) -> None:
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            self._sleep(min(left, _LOOK_SECONDS))
            look()
