from __future__ import annotations

import copy
import math
import random
import resource
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tailrace.pipeline import codec
from tailrace.pipeline.codec import (
    FRAME_MAX_BYTES,
    FRAME_MAX_EVENTS,
    FrameEncoder,
    FrameHeader,
    decode_events,
    decode_header,
)
from tailrace.pipeline.errors import FrameError
from tailrace.pipeline.event import INT_MAX, INT_MIN, Event
from tailrace.pipeline.producer import Producer

TIME_NS = 1_700_000_000_123_456_789
PRODUCER = b"0123456789"
MUTATIONS = 100_000


def wire(measurement: str = "checkout", **fields: Any) -> tuple[Any, ...]:
    return (measurement, TIME_NS, {"plan": "pro"}, fields or {"amount": 12.5}, None)


def header_of(**changes: Any) -> FrameHeader:
    values: dict[str, Any] = {
        "producer": PRODUCER,
        "sequence": 1,
        "created_ns": TIME_NS,
        "started_ns": TIME_NS,
        "events": {"checkout": 1},
        "sent": {"checkout": 1},
    }
    return FrameHeader(**{**values, **changes})


def frame_of(payload: bytes, **changes: Any) -> bytes:
    """Return a frame with any payload and right checksums."""
    return FrameEncoder().frame(header_of(**changes), payload)


def frame_of_parts(head: bytes, body: bytes) -> bytes:
    """Return a frame with any bytes in it and right checksums, as a hostile sender would."""
    sums = zlib.crc32(head), zlib.crc32(body)
    return struct.pack(">2sBBIIII", b"TR", 1, 1, len(head), len(body), *sums) + head + body


def decode(frame: bytes) -> list[Event]:
    return decode_events(frame, decode_header(frame))


def pack(*events: Any) -> bytes:
    return msgspec.msgpack.encode(list(events))


# --- what goes in comes out

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = TEXT.filter(lambda text: text and "\0" not in text)
VALUES = (
    st.booleans()
    | st.none()
    | st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
EVENTS = st.tuples(
    NAMES,
    st.integers(INT_MIN, INT_MAX),
    st.dictionaries(NAMES, TEXT, max_size=3),
    st.dictionaries(NAMES, VALUES, max_size=3),
    st.none() | TEXT,
)


@given(st.lists(EVENTS, max_size=10), st.dictionaries(NAMES, TEXT, max_size=2))
def test_events_come_back_exactly(events: list[Any], shared: dict[str, str]) -> None:
    producer = Producer(1, shared)
    names = [event[0] for event in events]
    _, frame = producer.frame(0, names, producer.payload(events))
    header = decode_header(frame)
    found = decode_events(frame, header)
    assert [
        (e.measurement, e.time_ns, e.tags, e.fields, e.trace_id, e.rejected) for e in found
    ] == [
        (m, when, {**shared, **tags}, fields, trace, None)
        for m, when, tags, fields, trace in events
    ]
    types = [[type(value) for value in event.fields.values()] for event in found]
    assert types == [[type(value) for value in event[3].values()] for event in events]
    assert header.event_count == len(events)


def test_ids_are_unique_and_follow_from_the_frame() -> None:
    producer = Producer(2, {})
    ids = []
    for offset in range(6):
        _, frame = producer.frame(offset, ["checkout"] * 3, producer.payload([wire()] * 3))
        ids += [event.id for event in decode(frame)]
        assert [event.id for event in decode(frame)] == ids[-3:]
    assert len(set(ids)) == 18
    assert {len(event_id) for event_id in ids} == {16}


def test_an_events_own_tag_wins_over_the_frames() -> None:
    frame = frame_of(pack(wire()), tags={"plan": "free", "release": "r1"})
    assert decode(frame)[0].tags == {"plan": "pro", "release": "r1"}


# --- frames that are no frames


@pytest.mark.parametrize("frame", [b"", b"TR", b"x" * 200, b"TR\x01\x01" + b"\xff" * 16])
def test_other_bytes_are_no_frame(frame: bytes) -> None:
    with pytest.raises(FrameError):
        decode_header(frame)


def test_every_cut_is_noticed() -> None:
    frame = frame_of(pack(wire()))
    for length in range(len(frame)):
        with pytest.raises(FrameError):
            decode(frame[:length])


def test_every_single_wrong_bit_is_noticed() -> None:
    frame = frame_of(pack(wire()))
    for position in range(len(frame) * 8):
        wrong = bytearray(frame)
        wrong[position // 8] ^= 1 << position % 8
        with pytest.raises(FrameError):
            decode(bytes(wrong))


def test_a_wrong_bit_in_the_header_is_noticed_without_the_payload() -> None:
    """Or else a frame with a wrong sequence would make all later ones look like copies."""
    frame = frame_of(pack(wire()))
    preamble_bytes = struct.calcsize(">2sBBIIII")
    head_bytes = struct.unpack_from(">I", frame, 4)[0]
    for position in range(preamble_bytes * 8, (preamble_bytes + head_bytes) * 8):
        wrong = bytearray(frame)
        wrong[position // 8] ^= 1 << position % 8
        with pytest.raises(FrameError, match="header's checksum"):
            decode_header(bytes(wrong))


def test_a_frame_of_another_version_says_what_to_do() -> None:
    frame = bytearray(frame_of(pack(wire())))
    frame[2] = 2
    with pytest.raises(FrameError, match=r"version 2.*update django-tailrace on the workers"):
        decode_header(bytes(frame))


def test_frame_errors_survive_the_trip_between_processes() -> None:
    with pytest.raises(FrameError) as caught:
        decode_header(b"")
    again = copy.copy(caught.value)  # does what pickling does
    assert (type(again), str(again)) == (FrameError, str(caught.value))


# --- frames with right checksums and wrong contents


@pytest.mark.parametrize(
    "changes",
    [
        {"producer": b"short"},
        {"sequence": 0},
        {"sequence": -5},
        {"sequence": 2**63},
        {"sequence": 2**48},
        {"created_ns": 2**63},
        {"started_ns": 2**64 - 1},
        {"events": {"checkout": -1}},
        {"events": {"checkout": 1}, "sent": {}},
        {"events": {"checkout": 2}, "sent": {"checkout": 1}},
        {"sent": {"checkout": 2**48}},
        {"sent": {"checkout": 2**47, "a": 2**47, "b": 2**47}},
        {"unsent": {"dropped:buffer_full": {"checkout": 2**62, "b": 2**62}}},
        {"unsent": {"dropped:buffer_full": {"checkout": -1}}},
        {"unsent": {"x" * 65: {"checkout": 1}}},
        {"unsent": {"dropped:\0": {"checkout": 1}}},
        {"unsent": {"dropped:x": {"check\0out": 1}}},
        {"events": {"a\0b": 1}, "sent": {"a\0b": 1}},
        {"events": {"": 1}, "sent": {"": 1}},
        {"events": {"x" * 101: 1}, "sent": {"x" * 101: 1}},
        {"tags": {"": "x"}},
        {"events": {"checkout": FRAME_MAX_EVENTS + 1}, "sent": {"checkout": 2**40}},
    ],
    ids=repr,
)
def test_an_impossible_header_is_refused(changes: dict[str, Any]) -> None:
    """What got through here would fail in the ledger's columns, and stop the shard for good."""
    with pytest.raises(FrameError):
        decode_header(frame_of(pack(wire()), **changes))


@pytest.mark.parametrize("junk", [b"\xc1", b"", b"\x93\x01\x02\x03", b"\x90", b"\x81\x01\x02"])
def test_a_header_of_another_shape_is_refused(junk: bytes) -> None:
    with pytest.raises(FrameError):
        decode_header(frame_of_parts(junk, b""))


def test_deep_nesting_is_refused() -> None:
    """The decoder skips elements it does not know, recursively."""
    nested = b"\x91" * 100_000 + b"\xc0"
    head = msgspec.msgpack.encode(header_of())
    assert head[0] == 0x99, "the header's array has 9 elements"
    with pytest.raises(FrameError):
        decode_header(frame_of_parts(b"\x9a" + head[1:] + nested, b""))
    event = msgspec.msgpack.encode(wire())
    with pytest.raises(FrameError):
        decode(frame_of(b"\x91\x98" + event[1:] + b"\xc0\xc4\x00" + nested))


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc0", pack(), pack(wire(), wire()), b"\xdd\xff\xff\xff\xff", b"\x81\x01\x02"],
)
def test_a_payload_of_another_length_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError):
        decode(frame_of(payload))


def test_events_of_another_measurement_than_the_header_counts_are_refused() -> None:
    """They would be booked as captured under one name and as stored under another."""
    with pytest.raises(FrameError, match="measurements"):
        decode(frame_of(pack(wire("query"))))


@pytest.mark.parametrize("body", [b"", b"not zstd", zstandard.compress(b"x")[:-2]])
def test_a_payload_that_does_not_decompress_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        decode(frame_of_parts(msgspec.msgpack.encode(header_of()), body))


def bomb_with_its_size() -> bytes:
    return zstandard.compress(bytes(2**30))


def bomb_without_its_size() -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**28))


def bomb_that_lies() -> bytes:
    # The size in the header: 8 bytes after the magic and the descriptor.
    body = bytearray(zstandard.compress(bytes(2**30)))
    size = (2**30).to_bytes(4, "little")
    at = body.index(size, 4, 16)
    body[at : at + 4] = (1000).to_bytes(4, "little")
    return bytes(body)


@pytest.mark.parametrize("bomb", [bomb_with_its_size, bomb_without_its_size, bomb_that_lies])
def test_a_bomb_is_refused_without_unpacking_it(bomb: Callable[[], bytes]) -> None:
    frame = frame_of_parts(msgspec.msgpack.encode(header_of()), bomb())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with pytest.raises(FrameError):
        decode(frame)
    assert time.perf_counter() - started < 2
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb * 1024 < 8 * FRAME_MAX_BYTES


def test_an_array_that_claims_millions_takes_no_memory() -> None:
    payload = b"\xdd" + (2**24 - 5).to_bytes(4, "big") + b"\x90" * (2**24 - 5)
    frame = frame_of(payload)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FrameError, match="16777211 events"):
        decode(frame)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb * 1024 < 8 * FRAME_MAX_BYTES


# --- one bad event costs only itself

BAD_EVENTS = {
    "nan": ("checkout", TIME_NS, {}, {"x": math.nan}, None),
    "infinity": ("checkout", TIME_NS, {}, {"x": math.inf}, None),
    "too large an integer": ("checkout", TIME_NS, {}, {"x": 2**64 - 1}, None),
    "time": ("checkout", "yesterday", {}, {}, None),
    "tag": ("checkout", TIME_NS, {"plan": 1}, {}, None),
    "nested field": ("checkout", TIME_NS, {}, {"x": {"y": 1}}, None),
    "bytes": ("checkout", TIME_NS, {}, {"x": b"\xff"}, None),
    "empty name": ("checkout", TIME_NS, {}, {"": 1}, None),
    "trace": ("checkout", TIME_NS, {}, {}, "x" * 65),
    "short": ("checkout",),
    "measurement": (7, TIME_NS, {}, {}, None),
    "no array": {"measurement": "checkout"},
    "nothing": None,
    "long": ("checkout", TIME_NS, {}, {"x": ["y" * 1_000_000]}, None),
}


@pytest.mark.parametrize("bad", BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_one_bad_event_is_rejected_and_the_others_are_not(bad: Any) -> None:
    counts = {"checkout": 3, "query": 1}
    frame = frame_of(pack(wire(), bad, wire("query"), wire()), events=counts, sent=counts)
    found = decode(frame)
    assert [event.rejected is None for event in found] == [True, False, True, True]
    assert [event.measurement for event in found] == ["checkout", "checkout", "query", "checkout"]
    assert "does not fit the wire format" in str(found[1].rejected)
    assert len(repr(found[1].fields)) < 3_000
    assert [event.id[-1] for event in found] == [0, 1, 2, 3], "ids count on"
    assert found[1].time_ns == TIME_NS


def test_text_that_is_no_utf8_is_rejected_alone() -> None:
    raw = pack(wire(), wire(name="abcdef")).replace(b"abcdef", b"abc\xff\xfef")
    found = decode(frame_of(raw, events={"checkout": 2}, sent={"checkout": 2}))
    assert [event.rejected is None for event in found] == [True, False]
    assert b"\0" not in str(found[1].fields).encode()


def test_all_bad_events_are_rejected() -> None:
    frame = frame_of(pack(*[None] * 50), events={"a": 20, "b": 30}, sent={"a": 20, "b": 30})
    found = decode(frame)
    assert [sum(e.measurement == name for e in found) for name in ("a", "b")] == [20, 30]
    assert all(event.rejected for event in found)


# --- random damage


def mutate(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        kind = rng.random()
        at = rng.randrange(len(changed) + 1)
        if kind < 0.6 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind < 0.8:
            changed[at:at] = rng.randbytes(rng.randint(1, 5))
        else:
            del changed[at : at + rng.randint(1, 5)]
    return bytes(changed)


def test_random_damage_gives_frame_errors_or_valid_events_and_nothing_else() -> None:
    """Half of it under right checksums, so that it reaches the decoders."""
    seed = random.randrange(2**32)
    print(f"seed: {seed}")
    rng = random.Random(seed)
    tags = {"region": "eu"}
    head = msgspec.msgpack.encode(
        header_of(events={"checkout": 3}, sent={"checkout": 9}, tags=tags)
    )
    payload = pack(wire(), wire(x=1, y=None, z=True), wire(text="naïve"))
    compressor = zstandard.ZstdCompressor(level=1)
    body = compressor.compress(payload)
    frame = frame_of_parts(head, body)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoded = 0
    for number in range(MUTATIONS):
        if number % 4 == 0:
            hostile = mutate(rng, frame)
        elif number % 4 == 1:
            hostile = frame_of_parts(mutate(rng, head), body)
        elif number % 4 == 2:
            hostile = frame_of_parts(head, compressor.compress(mutate(rng, payload)))
        else:
            hostile = frame_of_parts(head, mutate(rng, body))
        try:
            events = decode(hostile)
        except FrameError:
            continue
        decoded += 1
        check_storable(events)
    assert decoded > 100, "some damage must get as far as events, or this test shows nothing"
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 100 * 1024


def check_storable(events: list[Event]) -> None:
    for event in events:
        assert len(event.id) == 16
        assert INT_MIN <= event.time_ns <= INT_MAX
        for value in event.fields.values():
            assert value is None or isinstance(value, bool | int | float | str)
            assert not isinstance(value, float) or math.isfinite(value)
            assert not isinstance(value, int) or INT_MIN <= value <= INT_MAX
        assert all(isinstance(value, str) for value in event.tags.values())


def test_the_bounds_fit_the_settings() -> None:
    from tailrace.pipeline.config import Config

    hints = {field.name: field.type for field in msgspec.structs.fields(Config)}
    assert hints["frame_max_events"].__metadata__[0].le == codec.FRAME_MAX_EVENTS
    assert 2 * hints["frame_max_bytes"].__metadata__[0].le <= codec.FRAME_MAX_BYTES
