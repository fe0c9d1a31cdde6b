"""Dead letters as a backend shows them: chosen, listed, counted, and opened for a replay."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from .dead_letter import DeadLetter

LIST_LETTERS = 1_000
"""Letters that are listed at once."""


class LetterSelection(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters; what is not given does not limit."""

    ids: tuple[int, ...] | None = None
    measurement: str | None = None
    reason: str | None = None
    """Part of the reason, in the same case."""
    only_waiting: bool = True
    """Leave out those that were replayed."""

    def matches(self, letter: ListedLetter) -> bool:
        """Return whether a letter is one of them."""
        return (
            (self.ids is None or letter.id in self.ids)
            and (self.measurement is None or letter.measurement == self.measurement)
            and (self.reason is None or self.reason in letter.reason)
            and not (self.only_waiting and letter.is_replayed)
        )


class ListedLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter in a list: everything but its content."""

    id: int
    shard: int
    measurement: str
    reason: str
    events: int
    """How many events it stands for; 0 where that is not known."""
    attempts: int = 0
    """How often the storage refused it again."""
    is_replayed: bool = False


class ParkedLetter(NamedTuple):
    """A dead letter with its content, as a transaction on its shard reads it."""

    id: int
    letter: DeadLetter


class LetterCount(NamedTuple):
    """How many letters wait with the same measurement and reason."""

    measurement: str
    reason: str
    letters: int
    events: int
