from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tailrace.pipeline.buffer import Buffer
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import INVALID_MEASUREMENT, MEASUREMENTS_MAX
from tailrace.pipeline.ledger import DROPPED_BUFFER_FULL


def make(overflow: Any = "drop_oldest", capacity: int = 100, block_seconds: float = 0.05) -> Buffer:
    return Buffer(
        Config(overflow=overflow, buffer_max_events=capacity, block_seconds=block_seconds)
    )


def event(number: int, measurement: str = "m") -> tuple[Any, ...]:
    return (measurement, number, {}, {}, None)


def numbers(buffer: Buffer) -> list[int]:
    return [taken[1] for taken in buffer.take(1_000_000)]


def dropped(buffer: Buffer) -> int:
    return sum(buffer.lost().get(DROPPED_BUFFER_FULL, {}).values())


def test_events_leave_in_order() -> None:
    buffer = make()
    for number in range(10):
        buffer.append(event(number))
    assert len(buffer) == 10
    assert [taken[1] for taken in buffer.take(4)] == [0, 1, 2, 3]
    assert numbers(buffer) == [4, 5, 6, 7, 8, 9]
    assert buffer.take(5) == []


@pytest.mark.parametrize(
    ("overflow", "kept"),
    [("drop_oldest", range(50, 150)), ("drop_newest", range(100)), ("block", range(100))],
)
def test_overflow_drops_exactly_the_surplus(overflow: str, kept: range) -> None:
    buffer = make(overflow, block_seconds=0.001)
    for number in range(150):
        buffer.append(event(number))
    assert dropped(buffer) == 50
    assert numbers(buffer) == list(kept)


def test_drops_are_counted_by_the_measurement_that_is_dropped() -> None:
    buffer = make("drop_oldest", capacity=2)
    for name in ("old", "old", "new"):
        buffer.append(event(0, name))
    assert buffer.lost() == {DROPPED_BUFFER_FULL: {"old": 1}}
    buffer = make("drop_newest", capacity=2)
    for name in ("old", "old", "new"):
        buffer.append(event(0, name))
    assert buffer.lost() == {DROPPED_BUFFER_FULL: {"new": 1}}


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
@pytest.mark.parametrize("is_drained", [False, True])
def test_counts_are_exact_under_threads(overflow: str, is_drained: bool) -> None:
    buffer = make(overflow, capacity=200, block_seconds=0.002)
    threads, per_thread = 4, 250 if overflow == "block" else 5_000
    taken: list[int] = []
    is_over = threading.Event()

    def append(start: int) -> None:
        for number in range(start, start + per_thread):
            buffer.append(event(number))

    def take() -> None:
        while not is_over.is_set():
            taken.extend(one[1] for one in buffer.take(50))

    writers = [threading.Thread(target=append, args=(n * per_thread,)) for n in range(threads)]
    reader = threading.Thread(target=take)
    for thread in [*writers, *([reader] if is_drained else [])]:
        thread.start()
    for thread in writers:
        thread.join(30)
    is_over.set()
    if is_drained:
        reader.join(30)
    assert len(buffer) <= 200 + threads, "threads may overshoot by one each"
    taken += numbers(buffer)
    assert len(taken) + dropped(buffer) == threads * per_thread
    assert len(set(taken)) == len(taken)


def test_block_waits_for_room() -> None:
    buffer = make("block", capacity=10, block_seconds=20.0)
    for number in range(10):
        buffer.append(event(number))
    waiting = threading.Thread(target=buffer.append, args=(event(10),))
    waiting.start()
    time.sleep(0.05)
    assert waiting.is_alive()
    buffer.take(1)
    waiting.join(10)
    assert not waiting.is_alive()
    assert (numbers(buffer), dropped(buffer)) == (list(range(1, 11)), 0)


def test_block_gives_up_after_its_time() -> None:
    buffer = make("block", capacity=1, block_seconds=0.05)
    buffer.append(event(0))
    started = time.monotonic()
    buffer.append(event(1))
    assert 0.04 < time.monotonic() - started < 5
    assert dropped(buffer) == 1


def test_large_events_shrink_the_capacity() -> None:
    buffer = Buffer(Config(buffer_max_events=1000, buffer_max_bytes=2**20))
    buffer.set_event_cost(2**20 / 10)
    for number in range(100):
        buffer.append(event(number))
    assert (len(buffer), dropped(buffer)) == (10, 90)
    buffer.set_event_cost(2**30)
    assert buffer.capacity == 1, "there is always room for one"
    buffer.set_event_cost(1)
    assert buffer.capacity == 1000


def test_the_flusher_is_woken_when_a_frame_is_full() -> None:
    buffer = Buffer(Config(frame_max_events=10))
    for number in range(10):
        buffer.append(event(number))
    assert not buffer.wake.is_set()
    buffer.append(event(10))
    assert buffer.wake.is_set()


def test_names_to_count_under_are_bounded() -> None:
    buffer = make()
    for number in range(MEASUREMENTS_MAX + 50):
        buffer.count_lost("sampled_out", f"m{number}")
    for name in ("", "x" * 101, None, 7, ["m"]):
        buffer.count_lost("sampled_out", name)
    buffer.count_lost("sampled_out", "m0")
    counts = buffer.lost()["sampled_out"]
    assert len(counts) == MEASUREMENTS_MAX + 1
    assert counts[INVALID_MEASUREMENT] == 55
    assert counts["m0"] == 2
    buffer.count_lost("dropped:recorder_error", "a\ud800")
    assert buffer.lost()["dropped:recorder_error"] == {"a?": 1}, "it must have an encoding"
