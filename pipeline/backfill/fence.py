"""Copying beside a live drain: nothing twice, although the drain may still bring it.

While both ends of a copy are drained from the same stream, an event that was read at the
source may be in a frame that the target's drain has not stored yet; a copy that stores it first
would double it. So a slice is written only when the target has drained past everything that
the source had drained when the slice was read. From then on, what the target lacks of the
slice is what its drain will never bring.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.errors import StreamUnavailable, TransientBackendError
from tailrace.pipeline.runtime import Runtime
from tailrace.pipeline.stream import START, id_key

WAIT_SECONDS = 20.0
_LOOK_SECONDS = 0.1


class Fence:
    """Waits for the drain of one backend to come where that of another one is."""

    def __init__(self, process: Runtime, source: Any, target: Any) -> None:
        """Keep the backends.

        Args:
            process: The stream and its shards.
            source: The backend that is read.
            target: The backend that is written.
        """
        self._process = process
        self._source = source
        self._target = target

    def wait(self, alive: Callable[[], None]) -> None:
        """Wait for the target. Call it after a slice was read, and outside of transactions.

        Args:
            alive: Called now and then; may raise to give up.

        Raises:
            TransientBackendError: the target's drain does not come on.
        """
        marks = [self._source.read_checkpoint(shard) for shard in self._process.shards]
        deadline = time.monotonic() + WAIT_SECONDS
        for mark in marks:
            while mark is not None and not self._is_past(mark):
                if time.monotonic() >= deadline:
                    raise TransientBackendError(
                        f"backend {self._target.alias!r} is drained too, and has not come as far "
                        f"as {self._source.alias!r} in shard {mark.shard}; does its drain run?"
                    )
                time.sleep(_LOOK_SECONDS)
                alive()

    def _is_past(self, mark: Checkpoint) -> bool:
        target = self._target.read_checkpoint(mark.shard)
        if (
            target is not None
            and target.epoch == mark.epoch
            and id_key(target.position) >= id_key(mark.position)
        ):
            return True
        try:
            # Entries are removed once every backend has them: what is gone is in the target.
            if not self._process.stream.length(mark.shard):
                return True
            first = self._process.stream.read(mark.shard, START, 1)
            state = self._process.stream.state(mark.shard)
        except StreamUnavailable as error:
            raise TransientBackendError(
                f"nobody can tell whether backend {self._target.alias!r} still has something to "
                f"drain: {error}"
            ) from error
        return state.epoch == mark.epoch and bool(
            first and id_key(first[0].id) > id_key(mark.position)
        )
