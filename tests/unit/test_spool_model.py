"""The spool against lists: whatever is done to it, it must behave like them."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tailrace.pipeline.spool import Spool

MAX_BYTES = 1_600
RECORD_OVERHEAD_BYTES = 14
Item = tuple[int, bytes]
sizes = st.lists(st.integers(5, 120), max_size=6)


class SpoolModel(RuleBasedStateMachine):
    """One spool in use, and for each producer a list of what must be in it, in order.

    The spool may be closed, or left as by ``kill -9``, and adopted by the next; what was sent
    out of a segment that was not finished comes again then, directly before the rest.
    """

    overflow: str

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp()) / "spool"
        self.dropped: list[bytes] = []
        self.sent: dict[int, list[Item]] = defaultdict(list)
        self.waiting: dict[int, list[Item]] = defaultdict(list)
        self.producers = itertools.count()
        self.producer = next(self.producers)
        self.number = 0
        self.spool = self.new_spool()

    def new_spool(self) -> Spool:
        return Spool(self.folder, MAX_BYTES, self.overflow, self.dropped.extend)

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder.parent)

    def new_items(self, producer: int, lengths: list[int]) -> list[Item]:
        items = []
        for length in lengths:
            self.number += 1
            frame = bytes([producer]) + self.number.to_bytes(4, "big")
            items.append((self.number % 5, frame.ljust(length, b".")))
        return items

    def take_from_front(self, frames: list[bytes]) -> None:
        """Remove frames that must be the first ones waiting of their producers."""
        for frame in frames:
            item = self.waiting[frame[0]].pop(0)
            assert item[1] == frame
            self.sent[frame[0]].append(item)

    @property
    def all_waiting(self) -> list[Item]:
        return [item for items in self.waiting.values() for item in items]

    @rule(lengths=sizes)
    def append(self, lengths: list[int]) -> None:
        items = self.new_items(self.producer, lengths)
        self.dropped.clear()
        accepted = self.spool.append(items)
        self.waiting[self.producer] += items[:accepted]
        if self.overflow == "drop_oldest":
            assert accepted == len(items)
            self.take_from_front(self.dropped)
        elif self.overflow == "drop_newest":
            assert accepted == len(items)
            assert set(self.dropped) <= {frame for _, frame in items}
            own = self.waiting[self.producer]
            own[:] = [item for item in own if item[1] not in self.dropped]
        else:
            assert self.dropped == []

    @rule(max_frames=st.integers(1, 12), max_bytes=st.integers(1, 1_000), part=st.integers(0, 12))
    def peek_and_commit(self, max_frames: int, max_bytes: int, part: int) -> None:
        items = self.spool.peek(max_frames, max_bytes)
        everything = self.spool.peek(10_000, 2**30)
        assert sorted(everything) == sorted(self.all_waiting)
        assert items == everything[: len(items)]
        assert len(items) <= max_frames
        assert len(items) <= 1 or frame_bytes(items) <= max_bytes
        if len(items) < min(max_frames, len(everything)):
            assert items
            assert frame_bytes(everything[: len(items) + 1]) > max_bytes
        committed = items[:part]
        self.spool.commit(len(committed))
        self.take_from_front([frame for _, frame in committed])

    @rule(is_killed=st.booleans())
    def the_next_process_takes_over(self, is_killed: bool) -> None:
        if is_killed:
            self.spool.after_fork_in_child()  # lets go of files and locks, and does no more
        else:
            self.spool.close()
        self.spool = self.new_spool()
        self.producer = next(self.producers)
        assert self.spool.is_empty
        self.spool.adopt_orphans()
        adopted = self.spool.peek(10_000, 2**30)
        assert len(adopted) >= len(self.all_waiting)
        found: dict[int, list[Item]] = defaultdict(list)
        for item in adopted:
            found[item[1][0]].append(item)
        for producer, items in found.items():
            copies = len(items) - len(self.waiting[producer])
            before = len(self.sent[producer]) - copies
            assert items == self.sent[producer][before:] + self.waiting[producer]
            del self.sent[producer][before:]
            self.waiting[producer] = items

    @precondition(lambda self: self.all_waiting)
    @rule()
    def nobody_adopts_from_the_living(self) -> None:
        other = self.new_spool()
        assert other.adopt_orphans() == 0
        other.close()

    @rule(lengths=sizes)
    def another_process_dies(self, lengths: list[int]) -> None:
        """We adopt what it leaves if that fits; else a third process does."""
        producer = next(self.producers)
        items = self.new_items(producer, lengths)
        other = self.new_spool()
        assert other.append(items) == len(items)
        other.close()
        need_bytes = frame_bytes(items) + RECORD_OVERHEAD_BYTES * len(items)
        has_room = self.spool.is_empty or self.spool.bytes + need_bytes <= MAX_BYTES
        adopted = self.spool.adopt_orphans()
        assert bool(adopted) == (bool(items) and has_room)
        if adopted:
            self.waiting[producer] = items
            return
        third = self.new_spool()
        assert bool(third.adopt_orphans()) == bool(items)
        assert third.peek(10_000, 2**30) == items
        third.commit(len(items))
        third.close()

    @invariant()
    def the_disk_is_bounded_and_empty_means_empty(self) -> None:
        on_disk = sum(path.stat().st_size for path in self.folder.glob("*.frames"))
        assert on_disk == self.spool.bytes <= MAX_BYTES
        assert self.spool.is_empty == (not self.all_waiting)
        assert not list(self.folder.glob("*.corrupt"))


def frame_bytes(items: list[Item]) -> int:
    return sum(len(frame) for _, frame in items)


class DropOldestModel(SpoolModel):
    overflow = "drop_oldest"


class DropNewestModel(SpoolModel):
    overflow = "drop_newest"


class BlockModel(SpoolModel):
    overflow = "block"


_bounded = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestDropOldest = DropOldestModel.TestCase
TestDropNewest = DropNewestModel.TestCase
TestBlock = BlockModel.TestCase
TestDropOldest.settings = TestDropNewest.settings = TestBlock.settings = _bounded
