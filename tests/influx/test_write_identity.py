"""Two events are two points, and one event is one, however often and in whatever batches."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from influx.conftest import MakeBackend, books_count
from influx.fake_server import FakeInflux, Scripted
from influx.stored import events_of
from influx.test_write_answers import OPEN, commit, ids, stored

from tailrace.backends.influx.identity import Lanes
from tailrace.backends.testing import MemoryStream
from tailrace.backends.testing.draining import CONFIG, CrashingBackend, InjectedCrash, drain
from tailrace.backends.testing.frames import EVENT_TIME_NS, make_events
from tailrace.pipeline.codec import decode_events, decode_header
from tailrace.pipeline.config import BackendConfig, Config
from tailrace.pipeline.errors import RejectedEvents, TransientBackendError
from tailrace.pipeline.event import Event
from tailrace.pipeline.producer import Producer

WIRE = ("checkout", EVENT_TIME_NS, {"plan": "pro"}, {"amount": 1.5}, None)


def frames(producer: Producer, count: int, size: int, time_ns: int = EVENT_TIME_NS) -> list[bytes]:
    """Return frames of events that are all alike."""
    wire = (WIRE[0], time_ns, *WIRE[2:])
    made = []
    for start in range(0, count, size):
        amount = min(size, count - start)
        payload = producer.payload([wire] * amount)
        made.append(producer.frame(0, ["checkout"] * amount, payload)[1])
    return made


def events_in(frame: bytes) -> list[Event]:
    return decode_events(frame, decode_header(frame))


def test_events_of_one_microsecond_and_the_same_tags_are_as_many_points(
    fake_backend: MakeBackend, fake_influx: FakeInflux
) -> None:
    stream = MemoryStream(CONFIG)
    for number in range(3):
        stream.send(0, frames(Producer(1, {}), 3_000, 100 * (number + 1)))
    drain(fake_backend(), stream)
    assert len(stored(fake_influx)) == 9_000
    points = fake_influx.points.values()
    bursts = Counter(dict(point.tags).get("tailrace.burst") for point in points)
    assert bursts == {None: 2_700, "1": 2_700, "2": 2_700, "3": 900}


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_with_other_batches_changes_nothing(
    fake_backend: MakeBackend, fake_influx: FakeInflux, seed: int
) -> None:
    randomly = random.Random(seed)
    stream = MemoryStream(CONFIG)
    producers = [Producer(1, {}) for _ in range(3)]
    sent = 0
    for _ in range(20):
        amount = randomly.randrange(1, 200)
        when = EVENT_TIME_NS + randomly.randrange(3) * 1000
        stream.send(0, frames(randomly.choice(producers), amount, 500, when))
        sent += amount
    before: dict[Any, Any] = {}
    for batch in (300, 10_000):
        config = Config(backends={"default": BackendConfig()}, shards=2, drain_batch_events=batch)
        crashing = CrashingBackend(fake_backend(), has_committed=False)
        with pytest.raises(InjectedCrash):
            drain(crashing, stream, config)
        assert before.items() <= fake_influx.points.items()
        before = dict(fake_influx.points)
    drain(fake_backend(), stream)
    assert len(stored(fake_influx)) == sent == len(fake_influx.points)


@pytest.mark.parametrize("bad", [0, 150, 299])
@pytest.mark.parametrize("fields", [{"amount": math.nan}, {"amount": 1.5, "clash": 1}])
def test_a_refused_event_does_not_change_which_points_the_others_are(
    fake_backend: MakeBackend, fake_influx: FakeInflux, bad: int, fields: dict[str, Any]
) -> None:
    """The others are in when the batch is gone through again, frame by frame.

    We refuse the first kind, and the server the second, with a 422.
    """
    fake_influx.types["checkout", "clash"] = str
    stream = MemoryStream(CONFIG)
    producer = Producer(1, {})
    for start in range(0, 300, 100):
        wires = [WIRE] * 100
        if start <= bad < start + 100:
            wires[bad - start] = (*WIRE[:3], fields, None)
        payload = producer.payload(wires)
        stream.send(0, [producer.frame(0, ["checkout"] * 100, payload)[1]])
    drain(fake_backend(LINES_MAX=100), stream)
    assert len(stored(fake_influx)) == len(fake_influx.points) == 299


@pytest.mark.parametrize("frames_lost", [1, 2, 4])
def test_events_that_come_again_without_those_before_them_are_the_same_points(
    fake_backend: MakeBackend, fake_influx: FakeInflux, frames_lost: int
) -> None:
    """A drain dies with its points written; Redis is emptied; and a frame is sent once more."""
    producer, stream = Producer(1, {}), MemoryStream(CONFIG)
    sent = frames(producer, 50, 10)
    stream.send(0, sent)
    with pytest.raises(InjectedCrash):
        drain(CrashingBackend(fake_backend(), has_committed=False), stream)
    stream.lose_memory()
    sent = sent[frames_lost:]
    for later in ([], frames(producer, 30, 10)):
        sent += later
        stream.send(0, later or sent)
        drain(fake_backend(), stream)
        found = Counter(event["id"] for event in events_of(fake_influx.points.values()))
        expected = {str(event.uuid) for frame in sent for event in events_in(frame)}
        assert expected <= found.keys()
        assert set(found.values()) == {1}


@pytest.mark.parametrize("seed", range(8))
def test_they_may_come_in_many_batches_and_some_of_them_are_new(
    fake_backend: MakeBackend, fake_influx: FakeInflux, seed: int
) -> None:
    """The drain that died had written some parts of its batch, and not those before them."""
    randomly = random.Random(seed)
    producer, stream = Producer(1, {}), MemoryStream(CONFIG)
    hours = [EVENT_TIME_NS + randomly.randrange(2) * 3_600 * 10**9 for _ in range(8)]
    sent = [frames(producer, 10, 10, time_ns)[0] for time_ns in hours]
    stream.send(0, sent)
    fake_influx.script.extend(
        Scripted(204 if is_kept else 503, keeps=is_kept)
        for is_kept in randomly.choices((True, False), k=8)
    )
    with pytest.raises((InjectedCrash, TransientBackendError)):
        drain(CrashingBackend(fake_backend(LINES_MAX=10), has_committed=False), stream)
    fake_influx.script.clear()
    stream.lose_memory()
    sent = sorted(randomly.sample(sent, 5), key=sent.index)
    for frame in sent:
        stream.send(0, [frame])
        drain(fake_backend(), stream)
    found = Counter(event["id"] for event in events_of(fake_influx.points.values()))
    expected = {str(event.uuid) for frame in sent for event in events_in(frame)}
    assert expected <= found.keys()
    assert set(found.values()) == {1}


def test_what_was_committed_and_is_written_again_in_any_order_stays_the_same(
    fake_backend: MakeBackend, fake_influx: FakeInflux
) -> None:
    backend = fake_backend()
    backend.create_checkpoint(OPEN)
    (frame,) = frames(Producer(1, {}), 2_000, 2_000)
    events = events_in(frame)
    commit(backend, events, "1-0")
    points = dict(fake_influx.points)
    random.Random(1).shuffle(events)
    commit(fake_backend(), events[:1_500], "2-0")
    commit(backend, events[::-1], "3-0")
    assert fake_influx.points == points


def test_measured_times_need_no_tags_and_no_books_of_lanes(
    fake_backend: MakeBackend, fake_influx: FakeInflux
) -> None:
    backend = fake_backend()
    backend.create_checkpoint(OPEN)
    events = make_events(500)
    for number, event in enumerate(events):
        event.time_ns = EVENT_TIME_NS + 123 + number // 50 * 1000
    commit(backend, events)
    commit(backend, events, "2-0")
    assert stored(fake_influx) == ids(events)
    assert {name for point in fake_influx.points.values() for name, _ in point.tags} == {"plan"}


def test_slots_start_anew_each_hour(fake_backend: MakeBackend, fake_influx: FakeInflux) -> None:
    """So their number is that of producers in one hour, not of all that ever were."""
    backend = fake_backend()
    backend.create_checkpoint(OPEN)
    for hour in range(5):
        for number in range(3):
            (event,) = make_events(1)
            event.time_ns += hour * 3_600 * 10**9
            commit(backend, [event], f"{hour * 3 + number + 1}-0")
    slots = Counter(dict(point.tags).get("tailrace.slot") for point in fake_influx.points.values())
    assert slots == {None: 5, "1": 5, "2": 5}
    assert books_count("InfluxProducer") == 15


def test_two_drainers_never_share_a_slot(
    fake_backend: MakeBackend, fake_influx: FakeInflux
) -> None:
    """Producers of two shards with the same microsecond and tags."""
    first, second = fake_backend(), fake_backend()
    for shard in (0, 1):
        first.create_checkpoint(OPEN.__class__(shard))
    alike = [events_in(frames(Producer(1, {}), 20, 20)[0]) for _ in range(6)]
    for number, events in enumerate(alike):
        with (first, second)[number % 2].transaction(number % 2) as tx:
            tx.write(events)
    assert len(stored(fake_influx)) == 120


def test_lanes_go_on_from_their_state_as_if_nothing_had_been() -> None:
    randomly = random.Random(5)
    events = [_at(number, randomly.randrange(40)) for number in range(3_000)]
    whole, parts = Lanes(), Lanes()
    found = [whole.number(event, 7) for event in events]
    again = []
    for start in range(0, 3_000, 130):
        parts = Lanes(parts.state())
        again += [parts.number(event, 7) for event in events[start : start + 130]]
    assert again == found
    keys = Counter((event.time_ns, number) for event, number in zip(events, found, strict=True))
    assert max(keys.values()) == 1


def _at(number: int, microsecond: int) -> Event:
    event_id = b"p" * 10 + number.to_bytes(6, "big")
    return Event("m", EVENT_TIME_NS + microsecond * 1000, {}, {}, id=event_id)


def test_readings_in_order_use_up_no_numbers() -> None:
    lanes = Lanes()
    assert {lanes.number(_at(number, number), 1) for number in range(10_000)} == {0}


# --- the guard of tags


def tagged(values: Sequence[str]) -> list[Event]:
    events = make_events(len(values))
    for event, value in zip(events, values, strict=True):
        event.tags = {"plan": "pro", "user": value}
    return events


def values_of(fake: FakeInflux) -> Counter[str]:
    return Counter(event["tags"]["user"] for event in events_of(fake.points.values()))


def test_a_tag_past_its_cap_goes_to_overflow_and_totals_stay_right(
    fake_backend: MakeBackend, fake_influx: FakeInflux, caplog: pytest.LogCaptureFixture
) -> None:
    backend = fake_backend(TAG_VALUES_MAX=10)
    backend.create_checkpoint(OPEN)
    events = tagged([f"user {number % 500}" for number in range(2_000)])
    commit(backend, events)
    assert stored(fake_influx) == ids(events), "no event may be lost to the cap"
    found = values_of(fake_influx)
    assert len(found) == 11
    assert found["__overflow__"] == 2_000 - 10 * 4
    (warning,) = [r.getMessage() for r in caplog.records if "TAG_VALUES_MAX" in r.getMessage()]
    assert "'user'" in warning
    assert "'checkout'" in warning


def test_the_cap_is_one_for_all_processes_and_replays_keep_to_it(
    fake_backend: MakeBackend, fake_influx: FakeInflux
) -> None:
    first, second = fake_backend(TAG_VALUES_MAX=10), fake_backend(TAG_VALUES_MAX=10)
    first.create_checkpoint(OPEN)
    early = tagged([f"user {number}" for number in range(6)])
    late = tagged([f"user {number}" for number in range(100, 110)])
    commit(first, early, "1-0")
    commit(second, late, "2-0")
    points = dict(fake_influx.points)
    assert len(values_of(fake_influx)) == 11
    # A process that has seen nothing yet, and the two the other way round.
    third = fake_backend(TAG_VALUES_MAX=10)
    commit(third, late, "3-0")
    commit(first, late + early, "4-0")
    assert fake_influx.points == points


def test_devices_are_exempt(fake_backend: MakeBackend, fake_influx: FakeInflux) -> None:
    backend = fake_backend(TAG_VALUES_MAX=2)
    backend.create_checkpoint(OPEN)
    events = make_events(20)
    for number, event in enumerate(events):
        event.tags = {"device_id": str(number)}
    commit(backend, events)
    assert len({point.tags for point in fake_influx.points.values()}) == 20


# --- types of fields


def test_a_field_of_many_types_loses_nothing(
    fake_backend: MakeBackend, fake_influx: FakeInflux
) -> None:
    """The fake holds each key to one type, as InfluxDB does, and would answer 422."""
    first, second = fake_backend(), fake_backend()
    first.create_checkpoint(OPEN)
    events = make_events(60)
    values = [1, 1.5, "one", True, None, 2**63 - 1]
    for number, event in enumerate(events):
        event.fields = {"v": values[number % 6]}
    commit(first, events[:30], "1-0")
    commit(second, events[30:][::-1], "2-0")
    found = {event["id"]: event["fields"]["v"] for event in events_of(fake_influx.points.values())}
    expected = {str(event.uuid): event.fields["v"] for event in events}
    assert found == expected
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in expected.items()}
    keys = {key for point in fake_influx.points.values() for key in point.fields}
    assert {"v", "tailrace.float.v", "tailrace.none.v"} <= keys


def test_names_of_a_refused_reading_are_asked_for_again(
    fake_backend: MakeBackend, fake_influx: FakeInflux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not in the books: another process may give the field another type."""
    backend = fake_backend()
    fields = iter([{"a": 1, "b": math.nan}, {"a": 1}])
    monkeypatch.setattr(
        "tailrace.backends.influxdb.reading_event",
        lambda *args: Event("m", EVENT_TIME_NS, {}, next(fields)),
    )
    now = datetime.now(UTC)
    with pytest.raises(RejectedEvents):
        backend.store_reading(object, 1, now, {})
    assert books_count("InfluxName") == 0
    backend.store_reading(object, 1, now, {})
    assert books_count("InfluxName") == 1
