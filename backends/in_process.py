"""Checkpoints in the memory of this process, for backends that end with it."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.errors import BackendMisconfigured
from tailrace.pipeline.ledger import HighWater

from .base import BaseBackend, Transaction


class Shard:
    """What belongs to one shard; whoever holds its lock may change it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.lock = threading.Lock()
        self.checkpoint = checkpoint
        self.marks: dict[bytes, HighWater] = {}


class InProcessBackend(BaseBackend):
    """Keeps how far it has come in memory; a subclass says what a transaction stores."""

    def __init__(self, alias: str, options: Mapping[str, Any] | None) -> None:
        super().__init__(alias, options or {})
        self._lock = threading.Lock()
        self._shards: dict[int, Shard] = {}

    def read_checkpoint(self, shard: int) -> Checkpoint | None:
        with self._lock:
            known = self._shards.get(shard)
            return known.checkpoint if known else None

    def create_checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._lock:
            self._shards.setdefault(checkpoint.shard, Shard(checkpoint))

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
        with known.lock:
            tx = self._begin(known)
            yield tx
            with self._lock:
                self._commit(known, tx)

    @abstractmethod
    def _begin(self, shard: Shard) -> Any:
        """Return a transaction on a shard whose lock is held."""

    @abstractmethod
    def _commit(self, shard: Shard, tx: Any) -> None:
        """Make a transaction come true; the backend's lock is held, too."""
