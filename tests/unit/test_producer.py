from __future__ import annotations

import time

from tailrace.pipeline.codec import PRODUCER_BYTES, FrameHeader, decode_events, decode_header
from tailrace.pipeline.producer import Producer


def frame(producer: Producer, offset: int, *measurements: str) -> tuple[int, FrameHeader]:
    events = [(name, 0, {}, {}, None) for name in measurements]
    shard, data = producer.frame(offset, measurements, producer.payload(events))
    assert len(decode_events(data, decode_header(data))) == len(measurements)
    return shard, decode_header(data)


def test_frames_of_a_shard_are_numbered_from_one() -> None:
    producer = Producer(1, {})
    headers = [frame(producer, 0, "a")[1] for _ in range(3)]
    assert [header.sequence for header in headers] == [1, 2, 3]
    assert len({header.producer for header in headers}) == 1
    assert len(headers[0].producer) == PRODUCER_BYTES


def test_each_shard_is_a_producer_of_its_own() -> None:
    producer = Producer(4, {})
    found = [frame(producer, offset, "a") for offset in range(8)]
    assert sorted({shard for shard, _ in found}) == [0, 1, 2, 3]
    assert [header.sequence for _, header in found] == [1] * 4 + [2] * 4
    assert len({header.producer for _, header in found}) == 4
    assert sorted(producer.shards_in_use) == [0, 1, 2, 3]


def test_producers_differ() -> None:
    assert len({frame(Producer(1, {}), 0, "a")[1].producer for _ in range(100)}) == 100


def test_totals_grow_with_each_frame() -> None:
    producer = Producer(1, {"env": "test"})
    first, second = (frame(producer, 0, *names)[1] for names in (["a", "a", "b"], ["a"]))
    assert (first.events, first.sent) == ({"a": 2, "b": 1}, {"a": 2, "b": 1})
    assert (second.events, second.sent) == ({"a": 1}, {"a": 3, "b": 1})
    assert first.tags == second.tags == {"env": "test"}
    assert first.started_ns <= first.created_ns <= second.created_ns <= time.time_ns()


def test_counts_are_reported_exactly_once() -> None:
    producer = Producer(2, {})
    producer.count("sampled_out", "a", 3)
    assert producer.has_unreported_counts
    _, first = frame(producer, 0, "a")
    assert first.unsent == {"sampled_out": {"a": 3}}
    assert not producer.has_unreported_counts
    _, other_shard = frame(producer, 1, "a")
    assert other_shard.unsent == {}
    producer.count("sampled_out", "a")
    producer.set_total("dropped:buffer_full", {"b": 7})
    _, second = frame(producer, 1, "a")
    assert second.unsent == {"sampled_out": {"a": 1}, "dropped:buffer_full": {"b": 7}}
    producer.set_total("dropped:buffer_full", {"b": 7})
    assert not producer.has_unreported_counts
    _, again = frame(producer, 0, "a")
    assert again.unsent == {"sampled_out": {"a": 3}}, "each lane keeps what it has told"


def test_a_counting_frame_carries_totals_and_no_events() -> None:
    producer = Producer(3, {})
    _, before = frame(producer, 0, "a")
    producer.count("dropped:spool_full", "a", 5)
    shard, data = producer.counting_frame(is_last=True)
    header = decode_header(data)
    assert decode_events(data, header) == []
    assert (header.sequence, header.events, header.is_last) == (2, {}, True)
    assert header.unsent == {"dropped:spool_full": {"a": 5}}
    assert header.producer == before.producer, "it goes to the home shard"
    assert decode_header(producer.counting_frame((shard + 1) % 3)[1]).sequence == 1


def test_stubs_of_cut_frames_keep_the_latest_totals_whatever_their_order() -> None:
    """A stub of an earlier cut lies behind frames that were numbered after it."""
    producer = Producer(1, {})
    frames = [producer.frame(0, ["m"] * 10, producer.payload([]))[1] for _ in range(9)]
    goodbye = producer.counting_frame(0, is_last=True)[1]
    (early,) = producer.stubs(frames[:3])
    (stub,) = producer.stubs([*frames[3:], goodbye, early])
    header = decode_header(stub)
    assert (header.sequence, header.sent, header.is_last) == (10, {"m": 90}, True)
