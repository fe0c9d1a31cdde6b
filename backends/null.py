"""Takes everything and keeps nothing: for benchmarks, and for settings that want no data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.event import Event
from tailrace.pipeline.ledger import HighWater, Key

from .base import Features, Transaction
from .in_process import InProcessBackend, Shard


class NullBackend(InProcessBackend):
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
        super().__init__(alias, options)

    def ledger_totals(
        self, start: int | None = None, end: int | None = None
    ) -> Iterable[tuple[str, str, int]]:
        """Return nothing: there is no ledger."""
        return []

    def producer_totals(self) -> dict[str, int]:
        """Return nothing: no producer is remembered."""
        return {}

    # --- inside

    def _begin(self, shard: Shard) -> NullTransaction:
        return NullTransaction(shard.checkpoint)

    def _commit(self, shard: Shard, tx: NullTransaction) -> None:
        shard.checkpoint = tx.checkpoint


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
