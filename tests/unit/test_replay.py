"""How a replay goes through letters: in slices, one shard at a time, within its limits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.errors import RejectedEvents, TransientBackendError
from tailrace.pipeline.event import Event
from tailrace.pipeline.ledger import DEAD_LETTERED, STORED, Key
from tailrace.pipeline.parked import LetterSelection, ListedLetter, ParkedLetter
from tailrace.pipeline.replay import SLICE_EVENTS, Replay, ReplayResult

EVERYTHING = LetterSelection()


class FakeBackend:
    """A storage in lists, with the least that a replay needs; commits are all or nothing."""

    alias = "fake"

    def __init__(self, *letters: ListedLetter) -> None:
        self.letters = {letter.id: letter for letter in letters}
        self.slices: list[tuple[int, list[int]]] = []
        self.ledger: dict[Key, int] = {}
        self.refuses: set[int] = set()
        self.fails_at_slice = 0

    def dead_letters(
        self, selection: LetterSelection, after_id: int = 0, limit: int = 1000
    ) -> Sequence[ListedLetter]:
        found = [one for one in self.letters.values() if selection.matches(one)]
        return sorted((one for one in found if one.id > after_id), key=lambda one: one.id)[:limit]

    @contextmanager
    def transaction(self, shard: int) -> Iterator[FakeTransaction]:
        if self.fails_at_slice == len(self.slices) + 1:
            raise TransientBackendError("busy")
        tx = FakeTransaction(self, shard)
        yield tx
        self.slices.append((shard, tx.ids))
        for key, amount in tx.amounts.items():
            self.ledger[key] = self.ledger.get(key, 0) + amount
        for letter_id in tx.replayed:
            self.letters[letter_id] = _letter(letter_id, shard, is_replayed=True)


class FakeTransaction:
    """One slice."""

    def __init__(self, backend: FakeBackend, shard: int) -> None:
        self.backend = backend
        self.checkpoint = Checkpoint(shard)
        self.ids: list[int] = []
        self.amounts: dict[Key, int] = {}
        self.replayed: list[int] = []

    def parked(self, ids: Collection[int]) -> list[ParkedLetter]:
        self.ids = list(ids)
        return [
            ParkedLetter(one, DeadLetter(measurement="a", reason="", event=_event(one), minute=60))
            for one in ids
        ]

    def write(self, events: Sequence[Event]) -> None:
        if any(event.fields["n"] in self.backend.refuses for event in events):
            raise RejectedEvents("no")

    def park(self, letters: Sequence[DeadLetter]) -> None:
        raise AssertionError("no letter of these tests is a frame")

    def book(self, amounts: Mapping[Key, int]) -> None:
        self.amounts = dict(amounts)

    def settle(self, replayed: Collection[int], refused: Mapping[int, str]) -> None:
        self.replayed = list(replayed)


def _event(number: int) -> Event:
    return Event("a", 0, {}, {"n": number}, id=number.to_bytes(16, "big"))


def _letter(letter_id: int, shard: int = 0, events: int = 1, **more: bool) -> ListedLetter:
    return ListedLetter(
        id=letter_id, shard=shard, measurement="a", reason="", events=events, **more
    )


def replay(backend: FakeBackend) -> Replay:
    return Replay(backend, lambda name: True)


def test_a_slice_has_one_shard() -> None:
    """Its transaction locks one checkpoint only."""
    backend = FakeBackend(*(_letter(i, shard=i % 3) for i in range(1, 10)))
    replay(backend).run(EVERYTHING)
    assert backend.slices == [(0, [3, 6, 9]), (1, [1, 4, 7]), (2, [2, 5, 8])]


def test_a_slice_is_bounded_in_events() -> None:
    """So that the shard's drain waits for a short time only."""
    third = SLICE_EVENTS // 3
    backend = FakeBackend(*(_letter(i, events=third) for i in range(1, 8)))
    replay(backend).run(EVERYTHING)
    assert backend.slices == [(0, [1, 2, 3]), (0, [4, 5, 6]), (0, [7])]


def test_frames_of_unknown_content_go_alone() -> None:
    """Two of them may be copies of one frame; the second must see what the first has done."""
    backend = FakeBackend(_letter(1), _letter(2, events=0), _letter(3, events=0), _letter(4))
    replay(backend).run(EVERYTHING)
    assert [ids for _, ids in backend.slices] == [[1], [2], [3], [4]]


def test_more_letters_than_a_page() -> None:
    """All have their turn, those that are refused once each."""
    backend = FakeBackend(*(_letter(i) for i in range(1, 2503)))
    backend.refuses = {1, 1000, 1001, 2500}
    result = replay(backend).run(EVERYTHING)
    assert (result.replayed, result.events, result.refused) == (2498, 2498, 4)
    assert [letter_id for letter_id, _ in result.details] == [1, 1000, 1001, 2500]
    assert result.is_complete
    assert backend.ledger == {(60, "a", STORED): 2498, (60, "a", DEAD_LETTERED): -2498}


@pytest.mark.parametrize(("limit", "is_complete"), [(4, False), (5, True), (6, True)])
def test_limit(limit: int, is_complete: bool) -> None:
    """No letter beyond the limit is touched, and the result says whether there is one."""
    backend = FakeBackend(*(_letter(i) for i in range(1, 6)))
    result = replay(backend).run(EVERYTHING, limit=limit)
    assert result.replayed == min(limit, 5)
    assert result.is_complete is is_complete


def test_time_limit() -> None:
    """No slice starts after it; what was done is told."""
    backend = FakeBackend(_letter(1))
    result = replay(backend).run(EVERYTHING, seconds=0)
    assert (result.replayed, result.is_complete) == (0, False)
    assert backend.slices == []


def test_slices_before_a_failure_stand() -> None:
    """The error reaches the caller, and a second run does the rest only."""
    backend = FakeBackend(_letter(1, shard=0), _letter(2, shard=1))
    backend.fails_at_slice = 2
    seen: list[int] = []

    def on_slice(done: ReplayResult) -> None:
        seen.append(done.replayed)

    with pytest.raises(TransientBackendError):
        replay(backend).run(EVERYTHING, on_slice=on_slice)
    assert seen == [1]
    backend.fails_at_slice = 0
    assert replay(backend).run(EVERYTHING).replayed == 1
    assert backend.slices == [(0, [1]), (1, [2])]
