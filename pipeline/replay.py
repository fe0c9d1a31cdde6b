"""Replay: putting dead letters back, exactly once, with the ledger following.

A slice of letters of one shard is replayed in one transaction of the backend, which holds
that shard's checkpoint: the letters are read again under the lock, those that somebody else
replayed meanwhile fall out, their events are written, the ledger moves them from
``dead_lettered`` to ``stored``, and the letters are marked. A crash anywhere leaves either
nothing or everything of a slice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Protocol

import msgspec

from .context import suppress_recording
from .faults import fault
from .parked import LIST_LETTERS, LetterSelection, ListedLetter
from .replay_slice import Slice

SLICE_EVENTS = 1_000
"""Events in a transaction: while it lasts, the shard's drain waits."""
REFUSALS_KEPT = 20
"""Of the letters that did not go through, so many are told one by one."""


class ReplayBackend(Protocol):
    """What a replay needs; see :class:`tailrace.backends.base.BaseBackend`."""

    def transaction(self, shard: int) -> AbstractContextManager[Any]: ...
    def dead_letters(
        self, selection: LetterSelection, after_id: int = 0, limit: int = LIST_LETTERS
    ) -> Sequence[ListedLetter]: ...


class ReplayResult(msgspec.Struct, kw_only=True):
    """What a replay did."""

    replayed: int = 0
    """Letters whose events are stored now."""
    events: int = 0
    """Events stored."""
    split: int = 0
    """Events of replayed frames that the storage refuses; each is a letter of its own now."""
    refused: int = 0
    """Letters that the storage refused again; they have the new reason."""
    impossible: int = 0
    """Letters that cannot be replayed as they are; nothing about them has changed."""
    gone: int = 0
    """Letters that somebody else replayed meanwhile."""
    details: list[tuple[int, str]] = []
    """Id and reason of the first letters that did not go through."""
    is_complete: bool = True
    """Whether all selected letters had their turn; else the time or the limit was up."""

    @property
    def has_failures(self) -> bool:
        """Whether anything did not go through."""
        return bool(self.refused or self.impossible or self.split)

    def add(self, other: ReplayResult) -> None:
        """Add what another slice did."""
        self.replayed += other.replayed
        self.events += other.events
        self.split += other.split
        self.refused += other.refused
        self.impossible += other.impossible
        self.gone += other.gone
        self.details = (self.details + other.details)[:REFUSALS_KEPT]


class Replay:
    """Replays the dead letters of one backend."""

    def __init__(self, backend: ReplayBackend, accepts: Callable[[str], bool]) -> None:
        """Prepare; nothing is connected to yet.

        Args:
            backend: Whose letters, and where they go.
            accepts: Whether a measurement belongs to this backend.
        """
        self._backend = backend
        self._accepts = accepts

    def run(
        self,
        selection: LetterSelection,
        *,
        limit: int | None = None,
        seconds: float = float("inf"),
        on_slice: Callable[[ReplayResult], None] = lambda result: None,
    ) -> ReplayResult:
        """Replay the letters of a selection that wait.

        Args:
            selection: Which.
            limit: At most so many letters.
            seconds: Start no slice after this time.
            on_slice: Told the result so far, after each slice.

        Raises:
            BackendError: the slice at hand is undone, those before it stand; try again later.
        """
        deadline = time.monotonic() + seconds
        total = ReplayResult()
        with suppress_recording():
            letters = self.listed(selection)
            for shard, ids in _slices(islice(letters, limit)):
                if time.monotonic() >= deadline:
                    total.is_complete = False
                    return total
                total.add(self._run_slice(shard, ids))
                on_slice(total)
            total.is_complete = limit is None or next(letters, None) is None
        return total

    def listed(self, selection: LetterSelection) -> Iterator[ListedLetter]:
        """Yield the letters of a selection by id, as many at a time as memory likes."""
        after_id = 0
        while page := self._backend.dead_letters(selection, after_id):
            yield from page
            after_id = page[-1].id

    def _run_slice(self, shard: int, ids: Collection[int]) -> ReplayResult:
        with self._backend.transaction(shard) as tx:
            letters = tx.parked(ids)
            piece = Slice(letters, tx, self._accepts)
            piece.write()
            fault("after_replay_write")
            piece.settle()
            fault("before_replay_commit")
        fault("after_replay_commit")
        return ReplayResult(
            replayed=len(piece.replayed),
            events=piece.stored,
            split=piece.split,
            refused=len(piece.refused),
            impossible=len(piece.impossible),
            gone=len(ids) - len(letters),
            details=sorted({**piece.refused, **piece.impossible}.items())[:REFUSALS_KEPT],
        )


def _slices(letters: Iterable[ListedLetter]) -> Iterator[tuple[int, list[int]]]:
    """Cut letters into what one transaction takes: of one shard, of bounded size."""
    letters = iter(letters)
    while page := list(islice(letters, LIST_LETTERS)):
        for shard in sorted({letter.shard for letter in page}):
            ids: list[int] = []
            weight = 0
            for letter in (letter for letter in page if letter.shard == shard):
                # A frame of unknown content may be a copy of another one. What the first of
                # them does must be seen before the second, so each goes alone.
                size = letter.events or SLICE_EVENTS
                if ids and weight + size > SLICE_EVENTS:
                    yield shard, ids
                    ids, weight = [], 0
                ids.append(letter.id)
                weight += size
            if ids:
                yield shard, ids
