"""What a backend's author fills in, and the tools that the tests share."""

from __future__ import annotations

import time
import unittest
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from tailrace.backends.base import BaseBackend, Transaction
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.errors import TransientBackendError
from tailrace.pipeline.event import Event
from tailrace.pipeline.ledger import CAPTURED, Balance, HighWater, Key

_RETRY_SECONDS = 20.0

Result = TypeVar("Result")


class WriterHooks:
    """Subclass :class:`WriterContract` and override these."""

    examples: ClassVar[int] = 30
    """How many interleavings Hypothesis tries."""
    is_shared_between_processes: ClassVar[bool] = True
    """Whether a forked child writes to the same storage. ``False`` for what lives in memory."""

    def make_backend(self) -> BaseBackend:
        """Return a backend that is set up, on a storage with nothing in it.

        Called once a test, and once for each of Hypothesis's examples.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.make_backend() must return your backend on an empty storage"
        )

    def another(self, backend: BaseBackend) -> BaseBackend:
        """Return what another process would use: a second object on the same storage.

        Override it wherever there can be one; by default it is ``backend`` itself.
        """
        return backend

    def stored_events(self, backend: BaseBackend) -> list[dict[str, Any]]:
        """Return every stored event, each as :meth:`Event.as_dict` has it.

        Needed where ``features.keeps_events``.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.stored_events() must return all events that the storage "
            "holds, each in the form of Event.as_dict(); or set features.keeps_events = False"
        )

    def count_dead_letters(self, backend: BaseBackend) -> int | None:
        """Return how many dead letters are stored; ``None`` where that cannot be asked."""
        return None

    def refused_event(self) -> Event | None:
        """Return an event that this storage refuses; ``None`` where it takes every event."""
        return None


class Tools(WriterHooks):
    """What the tests use; nothing to override."""

    def open_shard(self, *shards: int) -> BaseBackend:
        """Return a fresh backend with a checkpoint for each shard (by default, shard 0)."""
        backend = self.make_backend()
        for shard in shards or (0,):
            backend.create_checkpoint(Checkpoint(shard))
        return backend

    def needs(self, backend: BaseBackend, feature: str) -> None:
        """Skip the test, with its reason, where the backend lacks a feature."""
        if not getattr(backend.features, feature):
            raise unittest.SkipTest(f"{type(backend).__name__}.features.{feature} is False")

    def commit(
        self,
        backend: BaseBackend,
        position: str,
        *,
        shard: int = 0,
        events: Sequence[Event] = (),
        letters: Sequence[DeadLetter] = (),
        amounts: Mapping[Key, int] | None = None,
        marks: Sequence[HighWater] = (),
    ) -> None:
        """Store one batch, in the order of the drain."""
        with backend.transaction(shard) as tx:
            tx.high_waters([mark.producer for mark in marks])
            if events:
                tx.write(events)
            if letters:
                tx.park(letters)
            tx.book(amounts or {})
            tx.advance(moved(tx, position), marks)

    def stored_ids(self, backend: BaseBackend) -> Counter[str]:
        """Return the ids of the stored events, each with how often it is there."""
        return Counter(event["id"] for event in self.stored_events(backend))

    def check_ledger(self, backend: BaseBackend, **expected: int) -> None:
        """Check that the books balance, by measurement, and hold what is expected.

        Args:
            backend: Whose books; nothing is checked where it keeps none.
            **expected: Amounts by outcome, ``dropped_redis_lost`` for ``dropped:redis_lost``.
        """
        if not backend.features.ledger:
            return
        rows = list(backend.ledger_totals())
        captured = {m: amount for m, outcome, amount in rows if outcome == CAPTURED and amount}
        told = {m: amount for m, amount in backend.producer_totals().items() if amount}
        assert captured == told, f"the ledger has {captured}, the producers say {told}"
        for measurement in {row[0] for row in rows}:
            balance = Balance.of((o, n) for m, o, n in rows if m == measurement)
            assert balance.is_balanced, f"{measurement}: {balance.line()}"
        totals: Counter[str] = Counter()
        for _, outcome, amount in rows:
            totals[outcome.replace("dropped:", "dropped_")] += amount
        found = {outcome: totals[outcome] for outcome in expected}
        assert found == expected, f"the ledger has {dict(totals)}, expected {expected}"


def moved(tx: Transaction, position: str) -> Checkpoint:
    """Return a transaction's checkpoint at another position."""
    return Checkpoint(tx.checkpoint.shard, position, "epoch-1", tx.checkpoint.created_ns)


def patiently(action: Callable[[], Result]) -> Result:
    """Do what the drain does with a transient error: try again later."""
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        try:
            return action()
        except TransientBackendError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
