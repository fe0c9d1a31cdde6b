from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailrace.pipeline.spool import Spool

FRAME_BYTES = 86
RECORD_BYTES = 100
ALL = (10_000, 2**30)
SegmentFiles = Callable[[], list[Path]]


def frame(number: int) -> bytes:
    return f"frame {number:06d} ".encode().ljust(FRAME_BYTES, b"x")


def items(*numbers: int) -> list[tuple[int, bytes]]:
    return [(number % 4, frame(number)) for number in numbers]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def dropped() -> list[bytes]:
    return []


@pytest.fixture
def make(folder: Path, dropped: list[bytes]) -> Callable[..., Spool]:
    def make(max_bytes: int = 2**20, overflow: Any = "drop_oldest") -> Spool:
        return Spool(folder, max_bytes, overflow, dropped.extend)

    return make


@pytest.fixture
def files(folder: Path) -> SegmentFiles:
    return lambda: sorted(folder.glob("*.frames"))


def drain(spool: Spool) -> list[tuple[int, bytes]]:
    found = []
    while batch := spool.peek(3, 2**30):
        found += batch
        spool.commit(len(batch))
    assert spool.is_empty
    return found


def open_descriptors() -> set[str]:
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}


def test_nothing_is_touched_before_the_first_append(make, folder):
    spool = make()
    assert spool.is_empty
    assert spool.bytes == 0
    assert spool.peek(*ALL) == []
    assert spool.append([]) == 0
    assert spool.adopt_orphans() == 0
    spool.close()
    assert not folder.exists()


def test_frames_come_back_in_order_with_their_shards(make):
    spool = make()
    assert spool.append(items(*range(50))) == 50
    assert spool.append(items(*range(50, 60))) == 10
    assert drain(spool) == items(*range(60))


def test_an_empty_frame_and_the_largest_shard_survive(make):
    spool = make()
    spool.append([(65_535, b""), (0, b"\0" * 70)])
    assert drain(spool) == [(65_535, b""), (0, b"\0" * 70)]


def test_peek_is_bounded_and_repeats_until_the_commit(make):
    spool = make()
    spool.append(items(*range(10)))
    assert spool.peek(3, 2**30) == items(0, 1, 2)
    assert spool.peek(100, 2 * FRAME_BYTES) == items(0, 1)
    assert spool.peek(100, 1) == items(0), "at least one, whatever its size"
    assert spool.peek(4, 2**30) == items(0, 1, 2, 3)
    spool.commit(2)
    assert spool.peek(1, 2**30) == items(2)
    spool.commit(0)
    assert spool.peek(1, 2**30) == items(2)


def test_a_commit_may_come_in_parts_but_not_beyond_the_peek(make):
    spool = make()
    spool.append(items(*range(10)))
    spool.peek(4, 2**30)
    spool.commit(1)
    spool.commit(3)
    with pytest.raises(ValueError, match="commit of 1 frames, but 0"):
        spool.commit(1)
    assert drain(spool) == items(*range(4, 10))


def test_appending_between_peek_and_commit_changes_neither(make):
    spool = make()
    spool.append(items(0, 1))
    spool.peek(*ALL)
    spool.append(items(2))
    spool.commit(2)
    assert drain(spool) == items(2)


def test_segments_are_bounded_and_deleted_once_they_are_sent(make, files):
    spool = make(max_bytes=8 * 3 * RECORD_BYTES)
    spool.append(items(*range(7)))
    assert [path.stat().st_size // RECORD_BYTES for path in files()] == [3, 3, 1]
    assert spool.bytes == 7 * RECORD_BYTES
    spool.peek(4, 2**30)
    spool.commit(4)
    assert [path.stat().st_size // RECORD_BYTES for path in files()] == [3, 1]
    assert drain(spool) == items(4, 5, 6)
    assert files() == []
    assert spool.bytes == 0


def test_everything_is_private_and_closing_leaves_nothing_behind(make, folder):
    before = open_descriptors()
    spool = make()
    spool.append(items(0))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600, 0o600]
    drain(spool)
    spool.close()
    assert list(folder.iterdir()) == []
    assert open_descriptors() == before


def test_what_is_unsent_waits_for_the_next_process(make, files):
    first = make()
    first.append(items(0, 1))
    first.close()
    assert len(files()) == 1
    second = make()
    assert second.adopt_orphans() == 1
    assert drain(second) == items(0, 1)
    second.close()
    assert files() == []


def test_a_closed_spool_can_be_used_again(make):
    spool = make()
    spool.append(items(0))
    spool.close()
    assert spool.is_empty
    spool.append(items(1))
    assert drain(spool) == items(0, 1), "and adopts what it left, which is older"


def test_orphans_come_before_newer_frames_of_our_own(make):
    dead = make()
    dead.append(items(0, 1))
    ours = make()
    ours.append(items(2))
    dead.close()
    assert ours.adopt_orphans() == 1
    ours.append(items(3))
    assert drain(ours) == items(0, 1, 2, 3)


def test_a_clock_that_steps_back_changes_no_order(make, files, monkeypatch):
    times = iter([1_000, 900, 800])
    monkeypatch.setattr("tailrace.pipeline.spool.time.time_ns", lambda: next(times))
    spool = make(max_bytes=8 * RECORD_BYTES)
    spool.append(items(0, 1, 2))
    assert [int(path.name[:16], 16) for path in files()] == [1_000, 1_001, 1_002]
    spool.close()
    heir = make()
    assert heir.adopt_orphans() == 3
    assert drain(heir) == items(0, 1, 2)


def test_drop_oldest_hands_over_the_oldest_segment(make, dropped):
    spool = make(max_bytes=8 * 2 * RECORD_BYTES)
    assert spool.append(items(*range(19))) == 19
    assert dropped == [frame(number) for number in (0, 1, 2, 3)]
    assert spool.bytes <= 8 * 2 * RECORD_BYTES
    assert drain(spool) == items(*range(4, 19))


def test_drop_oldest_does_not_hand_over_what_was_sent(make, dropped):
    spool = make(max_bytes=8 * 2 * RECORD_BYTES)
    spool.append(items(*range(16)))
    spool.peek(1, 2**30)
    spool.commit(1)
    spool.append(items(16))
    assert dropped == [frame(1)]


def test_a_peek_whose_frames_were_dropped_can_still_be_committed(make, dropped):
    spool = make(max_bytes=8 * 2 * RECORD_BYTES)
    spool.append(items(*range(16)))
    spool.peek(3, 2**30)
    spool.append(items(16))
    spool.commit(3)
    assert dropped == [frame(0), frame(1)]
    assert drain(spool) == items(*range(3, 17))


def test_drop_newest_hands_over_what_does_not_fit(make, dropped):
    spool = make(max_bytes=8 * RECORD_BYTES, overflow="drop_newest")
    assert spool.append(items(*range(10))) == 10
    assert dropped == [frame(8), frame(9)]
    assert drain(spool) == items(*range(8))


def test_block_accepts_no_more_than_fits(make, dropped):
    spool = make(max_bytes=8 * RECORD_BYTES, overflow="block")
    assert spool.append(items(*range(10))) == 8
    assert spool.append(items(8, 9)) == 0
    spool.peek(1, 2**30)
    spool.commit(1)
    assert spool.append(items(8, 9)) == 1, "a segment was sent, so there is room again"
    assert drain(spool) == items(*range(1, 9))
    assert dropped == []


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
def test_a_frame_that_can_never_fit_costs_no_other(make, dropped, overflow):
    spool = make(max_bytes=8 * RECORD_BYTES, overflow=overflow)
    giant = bytes(8 * RECORD_BYTES)
    assert spool.append([*items(0), (0, giant), *items(1)]) == 3
    assert dropped == [giant]
    assert drain(spool) == items(0, 1)


def test_adopted_segments_count_against_the_bound(make, dropped):
    dead = make(max_bytes=8 * RECORD_BYTES)
    dead.append(items(*range(8)))
    dead.close()
    ours = make(max_bytes=8 * RECORD_BYTES)
    ours.append(items(8))
    assert ours.bytes == 8 * RECORD_BYTES
    assert dropped == [frame(0)], "the first append adopts, and the oldest goes"
    assert drain(ours) == items(*range(1, 9))


def test_orphans_that_do_not_fit_are_left_until_there_is_room(make, dropped):
    ours = make(max_bytes=8 * RECORD_BYTES)
    ours.append(items(8))
    dead = make(max_bytes=8 * RECORD_BYTES)
    dead.append(items(*range(8)))
    dead.close()
    assert ours.adopt_orphans() == 0
    assert drain(ours) == items(8)
    assert ours.adopt_orphans() == 8
    assert drain(ours) == items(*range(8))
    assert dropped == []


def test_an_empty_spool_adopts_what_a_larger_one_left(make, dropped):
    dead = make(max_bytes=16 * RECORD_BYTES)
    dead.append(items(*range(16)))
    dead.close()
    ours = make(max_bytes=8 * RECORD_BYTES, overflow="drop_newest")
    assert ours.adopt_orphans() == 8
    assert drain(ours) == items(*range(16))
    assert dropped == []


def test_live_spools_are_never_adopted(make):
    alive, other = make(), make()
    alive.append(items(0))
    assert other.adopt_orphans() == 0
    other.append(items(1))
    assert drain(other) == items(1)
    assert drain(alive) == items(0)


def test_locks_without_segments_are_cleared_away(make, folder):
    spool = make()
    spool.append(items(0))
    drain(spool)
    spool.after_fork_in_child()  # what kill -9 leaves, but in this process
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    make().adopt_orphans()
    assert list(folder.iterdir()) == []
