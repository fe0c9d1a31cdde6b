from __future__ import annotations

import time

import pytest

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.codec import FrameHeader
from tailrace.pipeline.ledger import HighWater
from tailrace.pipeline.stream import START, ShardState, id_key, id_seconds


def state(epoch: str = "e1", last_id: str = "100-0", *, has_positions: bool = True) -> ShardState:
    return ShardState(epoch, last_id, START, has_positions)


@pytest.mark.parametrize(
    ("checkpoint", "now", "after"),
    [
        (Checkpoint(0), state(), START),
        (Checkpoint(0, "50-3", "e1"), state(), "50-3"),
        (Checkpoint(0, "100-0", "e1"), state(), "100-0"),
        (Checkpoint(0, "50-3", "e1"), state("e2"), START),
        (Checkpoint(0, "100-1", "e1"), state(), START),
        (Checkpoint(0, "9-0", "e1"), state(last_id="10-0"), "9-0"),
        (Checkpoint(0, "10-0", "e1"), state(last_id="9-0"), START),
        (Checkpoint(0, "50-3", ""), state(), "50-3"),
    ],
    ids=[
        "never drained",
        "behind",
        "at the end",
        "Redis has a new memory",
        "Redis went back within a millisecond",
        "ids compare as numbers",
        "Redis went back",
        "the epoch was not known yet",
    ],
)
def test_where_to_read_on(checkpoint: Checkpoint, now: ShardState, after: str) -> None:
    assert checkpoint.resume_after(now) == after


def header(sequence: int, started_ns: int) -> FrameHeader:
    return FrameHeader(b"0123456789", sequence, started_ns, started_ns, {"a": 2}, {"a": 9})


def test_the_first_backend_answers_for_everything() -> None:
    first = Checkpoint.first(3, state(has_positions=False))
    assert first == Checkpoint(3)
    assert first.first_mark(header(7, 1)) == HighWater(b"0123456789")


def test_a_backend_that_joins_answers_from_its_first_frame_on() -> None:
    joined = Checkpoint.first(3, state())
    assert abs(joined.created_ns - time.time_ns()) < 60 * 10**9
    earlier, later = joined.created_ns - 1, joined.created_ns + 1
    assert joined.first_mark(header(7, earlier)) == HighWater.baseline(header(7, earlier))
    assert joined.first_mark(header(7, later)) == HighWater(b"0123456789"), "a loss since then"
    assert joined.first_mark(header(1, earlier)) == HighWater(b"0123456789"), "nothing came before"


def test_entry_ids() -> None:
    ids = ["10-0", "9-11", "9-2", "9-0", "0-0"]
    assert sorted(ids, key=id_key) == ["0-0", "9-0", "9-2", "9-11", "10-0"]
    assert id_seconds("1500-7") == 1.5
