"""Takes everything and keeps nothing: for benchmarks, and for settings that want no data."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.errors import BackendMisconfigured
from tailrace.pipeline.event import Event
from tailrace.pipeline.ledger import HighWater, Key

from .base import BaseBackend, Features, Transaction


class NullBackend(BaseBackend):
    """Keeps only how far it has come, in memory, so that the stream can be trimmed."""

    features: ClassVar[Features] = Features(keeps_events=False, ledger=False)

    def __init__(self, alias: str = "default", options: Mapping[str, Any] | None = None) -> None:
        """Start at the beginning.

        Args:
            alias: This backend's name in ``TAILRACE["BACKENDS"]``.
            options: It takes none.

        Raises:
            ConfigurationError: there is an option.
        """
        super().__init__(alias, options or {})
        self._lock = threading.Lock()
        self._shards: dict[int, tuple[threading.Lock, Checkpoint]] = {}

    def read_checkpoint(self, shard: int) -> Checkpoint | None:
        with self._lock:
            known = self._shards.get(shard)
            return known[1] if known else None

    def create_checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._lock:
            self._shards.setdefault(checkpoint.shard, (threading.Lock(), checkpoint))

    def transaction(self, shard: int) -> AbstractContextManager[Transaction]:
        return self._transaction(shard)

    @contextmanager
    def _transaction(self, shard: int) -> Iterator[Transaction]:
        with self._lock:
            known = self._shards.get(shard)
        if known is None:
            raise BackendMisconfigured(
                f"backend {self.alias!r} has no checkpoint of shard {shard}; call "
                "create_checkpoint() first"
            )
        with known[0]:
            checkpoint = self.read_checkpoint(shard)
            assert checkpoint is not None, "a shard is never taken away"
            tx = NullTransaction(checkpoint)
            yield tx
            with self._lock:
                self._shards[shard] = (known[0], tx.checkpoint)

    def ledger_totals(
        self, start: int | None = None, end: int | None = None
    ) -> Iterable[tuple[str, str, int]]:
        """Return nothing: there is no ledger."""
        return []

    def producer_totals(self) -> dict[str, int]:
        """Return nothing: no producer is remembered."""
        return {}


class NullTransaction(Transaction):
    """Lets one batch go by."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def high_waters(self, producers: Collection[bytes]) -> dict[bytes, HighWater]:
        return {}

    def write(self, events: Sequence[Event]) -> None:
        """Throw events away."""

    def park(self, letters: Sequence[DeadLetter]) -> None:
        """Throw dead letters away."""

    def book(self, amounts: Mapping[Key, int]) -> None:
        """Throw amounts away."""

    def advance(self, checkpoint: Checkpoint, high_waters: Sequence[HighWater]) -> None:
        self.checkpoint = checkpoint
