"""Copies into InfluxDB: each event once, beside what the drain has stored and still stores."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from influx.conftest import BOOKS, MakeBackend, books_count
from influx.servers import InfluxAddress
from influx.stored import events_in
from postgres_alias import postgres_alias
from readings.station.models import WeatherStationReading

from tailrace.backends import written_models
from tailrace.backends.backfill.ends import sink_of, source_of
from tailrace.backends.backfill.selection import Selection, Window
from tailrace.backends.base import Features
from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.influx import turns
from tailrace.backends.influx.server import Capabilities
from tailrace.backends.influx.writing import InfluxWriter
from tailrace.backends.influxdb import InfluxDBBackend
from tailrace.backends.memory import MemoryBackend
from tailrace.backends.null import NullBackend
from tailrace.backends.private_connection import close_private_connections
from tailrace.backends.testing import MemoryStream
from tailrace.backends.testing.draining import CONFIG, InjectedCrash, drain
from tailrace.backends.testing.frames import EVENT_TIME_NS
from tailrace.pipeline import readings as pipeline_readings
from tailrace.pipeline.backfill.contracts import (
    BACKFILL_SHARD,
    BackfillRefused,
    Estimate,
    Marker,
    Slice,
    StepResult,
)
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.errors import TransientBackendError
from tailrace.pipeline.event import Event, ns_from_datetime
from tailrace.pipeline.normalize import scalar
from tailrace.pipeline.producer import Producer
from tailrace.pipeline.readings import wire_fields

ALL = Window(None, None)


class Context:
    """What a step is given, where nobody looks on."""

    marker = Marker("0" * 32, 0)
    values: dict[str, Any] = {}

    def alive(self) -> None: ...
    def log(self, text: str) -> None: ...


def copy(
    source: Any, target: InfluxDBBackend, measurement: str = "checkout", rows: int = 100
) -> list[StepResult]:
    """Copy all of a measurement."""
    selection = Selection(measurement, ALL, rows)
    start, end = source_of(source, selection), sink_of(target, selection)
    end.check(start.estimate())
    return [end.write(Context(), slice_, start.read(slice_)) for slice_ in list(start.slices())]


def frame_of(producer: Producer, times_ns: Sequence[int], fields: Iterable[Any] = ()) -> bytes:
    """Return a frame of events that differ in time, and in a field if it is given."""
    own = list(fields) or [1.5] * len(times_ns)
    wires = [
        ("checkout", time_ns, {"plan": "pro"}, {"amount": amount}, None)
        for time_ns, amount in zip(times_ns, own, strict=True)
    ]
    return producer.frame(0, ["checkout"] * len(wires), producer.payload(wires))[1]


def history(seed: int = 1) -> list[bytes]:
    """Return frames of four producers: a clock's times, set times, and many of one instant."""
    randomly, frames = random.Random(seed), []
    producers = [Producer(1, {}) for _ in range(4)]
    for number in range(20):
        start = EVENT_TIME_NS + number * 10**9
        steps = [(randomly.randrange(50), randomly.choice((0, 0, 77))) for _ in range(30)]
        times = [start + microseconds * 1000 + ns for microseconds, ns in steps]
        frames.append(frame_of(randomly.choice(producers), times))
    return frames


def bring(backend: Any, frames: Sequence[bytes]) -> None:
    """Have the backend's own drain store frames."""
    stream = MemoryStream(CONFIG)
    stream.send(0, frames)
    drain(backend, stream)


def amounts(address: InfluxAddress, backend: InfluxDBBackend) -> Counter[str]:
    return Counter(event["id"] for event in events_in(address, backend.bucket))


@pytest.fixture
def source(books: str) -> DjangoDBBackend:
    return DjangoDBBackend("source", {"ALIAS": BOOKS})


def test_what_the_drain_has_stored_is_left_alone(
    influx: InfluxAddress, real_backend: MakeBackend, source: DjangoDBBackend
) -> None:
    """Though its times, which the source has to the microsecond, had nanoseconds then."""
    target, frames = real_backend(), history()
    bring(source, frames)
    bring(target, frames)
    before = amounts(influx, target)
    results = copy(source, target)
    assert amounts(influx, target) == before
    assert sum(result.rows_present for result in results) == 600
    assert sum(result.rows_written for result in results) == 0


@pytest.mark.parametrize("rows", [20, 1_000])
def test_copied_again_and_beside_the_drain(
    influx: InfluxAddress, real_backend: MakeBackend, source: DjangoDBBackend, rows: int
) -> None:
    """The first half by copy, the second by the drain; then all by copy, twice."""
    target, early, late = real_backend(), history(), history(2)
    bring(source, early)
    copy(source, target, rows=rows)
    bring(target, late)
    bring(source, late)
    for _ in range(2):
        copy(source, target, rows=100)
        found = amounts(influx, target)
        assert len(found) == 1_200
        assert set(found.values()) == {1}


@pytest.mark.parametrize("seed", range(3))
def test_a_copy_that_dies_half_way_is_made_again(
    influx: InfluxAddress,
    real_backend: MakeBackend,
    source: DjangoDBBackend,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Points are written, and their books not; meanwhile the drain goes on."""
    target = real_backend(LINES_MAX=20)
    bring(source, history(seed))
    left = random.Random(seed).randrange(1, 8)

    def dies(name: str) -> None:
        nonlocal left
        left -= name == "influx_written"
        if left == 0:
            raise InjectedCrash

    with monkeypatch.context() as patch:
        patch.setattr("tailrace.backends.influx.writing.fault", dies)
        with pytest.raises(InjectedCrash):
            copy(source, target)
    bring(target, history(seed + 10))
    copy(source, target, rows=77)
    found = amounts(influx, target)
    assert len(found) == 1_200
    assert set(found.values()) == {1}


def test_an_import_finds_what_is_there(
    influx: InfluxAddress, real_backend: MakeBackend, source: DjangoDBBackend
) -> None:
    """It has no window of time that could be looked through, so each event is asked for."""
    target, early, late = real_backend(), history(), history(2)
    bring(target, early)
    bring(source, early + late)
    everything = source_of(source, Selection("checkout", ALL, 10_000))
    (slice_,) = everything.slices()
    for _ in range(2):
        sink_of(target).write(Context(), Slice(label="a part of a file"), everything.read(slice_))
        found = amounts(influx, target)
        assert len(found) == 1_200
        assert set(found.values()) == {1}


def test_a_bucket_that_is_missing_is_made(
    influx: InfluxAddress, real_backend: MakeBackend, source: DjangoDBBackend
) -> None:
    there = real_backend()
    target = InfluxDBBackend("other", {**there.given_options, "BUCKET": f"{there.bucket} copy"})
    sink_of(target, Selection("checkout", ALL)).check(Estimate())
    assert target.is_bucket_missing(), "a dry run stores nothing"
    bring(source, history())
    copy(source, target)
    assert len(amounts(influx, target)) == 600
    target.close()


def test_a_server_that_cannot_be_asked_gets_no_copies(
    fake_backend: MakeBackend, source: DjangoDBBackend
) -> None:
    """VictoriaMetrics takes points, and nobody can tell which it has."""
    target = fake_backend()
    target._capabilities = Capabilities("VictoriaMetrics", "1.114", strings=False)
    bring(source, history())
    with pytest.raises(BackfillRefused, match="cannot be written: VictoriaMetrics"):
        copy(source, target)
    with pytest.raises(BackfillRefused, match="cannot be written: VictoriaMetrics"):
        sink_of(target).check(Estimate())


def test_a_dead_letter_that_was_copied_meanwhile_is_not_doubled_by_its_replay(
    influx: InfluxAddress, real_backend: MakeBackend
) -> None:
    target, (event,) = real_backend(), same_instant(1)
    write(target, [event])
    target.create_checkpoint(Checkpoint(0))
    with target.transaction(0) as tx:
        tx.is_replay = True
        tx.write([event])
    assert amounts(influx, target) == {str(event.uuid): 1}


def same_instant(count: int) -> list[Event]:
    """Return events that differ in their ids and a field."""
    return [
        Event("checkout", EVENT_TIME_NS, {"plan": "pro"}, {"amount": float(n)}, id=os.urandom(16))
        for n in range(count)
    ]


def write(target: InfluxDBBackend, events: Sequence[Event]) -> StepResult:
    """Import events, as often as it takes."""
    while True:
        with contextlib.suppress(TransientBackendError):
            return sink_of(target).write(Context(), Slice(label="a part of a file"), [events])


def cut_cable(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Have one request fail, counted from 1, and all others arrive."""
    original, numbers = InfluxWriter._post, itertools.count(1)

    def post(self: InfluxWriter, lines: Sequence[str]) -> None:
        if next(numbers) == failing:
            raise TransientBackendError("a cable is cut")
        original(self, lines)

    monkeypatch.setattr(InfluxWriter, "_post", post)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_part_that_fails_takes_no_others_place(
    influx: InfluxAddress,
    real_backend: MakeBackend,
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
) -> None:
    """What was written is found, and its numbers are not given again."""
    target, events = real_backend(LINES_MAX=20), same_instant(60)
    cut_cable(monkeypatch, failing)
    assert write(target, events).rows_written == 60
    assert len(amounts(influx, target)) == 60


def test_points_whose_books_were_never_written_keep_their_place(
    influx: InfluxAddress, real_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, (first, *others) = real_backend(), same_instant(6)

    def dies(name: str) -> None:
        raise InjectedCrash(name)

    with monkeypatch.context() as patch:
        patch.setattr("tailrace.backends.influx.writing.fault", dies)
        with pytest.raises(InjectedCrash):
            write(target, others)
    write(target, [first])
    assert len(amounts(influx, target)) == 6


def test_a_target_that_cannot_be_read_gets_copies_all_the_same(source: DjangoDBBackend) -> None:
    """It says itself that it keeps nothing to read, and that twice is once."""
    written: list[Event] = []

    class Taken:
        write = staticmethod(written.extend)

    class Shipper(NullBackend):
        features = Features(transactional_checkpoint=False, keeps_events=False)

        @contextlib.contextmanager
        def transaction(self, shard: int) -> Iterator[Any]:
            yield Taken

    bring(source, history())
    copy(source, Shipper("ship", {}))
    assert len(written) == 600


def test_few_among_many(
    influx: InfluxAddress, real_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies thinly over a dense time is found without being sent all that lies there."""
    target, step_ns = real_backend(), 10**9
    many = same_instant(6_000)
    for number, event in enumerate(many):
        event.time_ns += number * step_ns
    write(target, many)
    chosen, lines = many[::20], 0
    flux = target._flux

    def counted(text: str) -> Iterator[str]:
        nonlocal lines
        for line in flux(text):
            lines += 1
            yield line

    monkeypatch.setattr(target, "_flux", counted)
    found = target._look_up([*chosen, *same_instant(3)])
    assert found.keys() == {event.id for event in chosen}
    assert lines < 6_000
    lines = 0
    assert len(target._look_up(many)) == 6_000
    assert lines < 6_000 + 50, "one question is enough where most of it is asked for"


def test_many_hours_are_one_question(
    real_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, questions = real_backend(), []
    events = same_instant(300)
    for number, event in enumerate(events):
        event.time_ns += number * 3_600 * 10**9
    flux = target._flux
    monkeypatch.setattr(target, "_flux", lambda text: questions.append(text) or flux(text))
    write(target, events)
    assert len(questions) == 1


def test_a_refused_event_takes_no_others_with_it(
    influx: InfluxAddress, real_backend: MakeBackend
) -> None:
    target, events = real_backend(), same_instant(10)
    events[3].time_ns = 10**19
    result = write(target, events)
    assert (result.rows_written, result.rows_refused) == (9, 1)
    assert len(amounts(influx, target)) == 9


@pytest.mark.parametrize("are_same", [False, True])
def test_three_who_copy_at_once(
    influx: InfluxAddress,
    real_backend: MakeBackend,
    postgres_database: Callable[[str], str],
    django_db_blocker: Any,
    are_same: bool,
) -> None:
    """On a database where all can be in the middle of it, none overwrites or doubles anything.

    The same events have two writers when a step's worker was taken for dead.
    """

    def work(events: Sequence[Event]) -> None:
        with django_db_blocker.unblock():
            start.wait()
            write(target, events)
            close_private_connections(alias)

    written: set[str] = set()
    with django_db_blocker.unblock(), postgres_alias(postgres_database("copies")) as alias:
        target = real_backend(BOOKS_ALIAS=alias, LINES_MAX=20)
        for _ in range(4):
            start = threading.Barrier(3)
            parts = [same_instant(150)] * 3 if are_same else [same_instant(150) for _ in range(3)]
            written |= {str(event.uuid) for events in parts for event in events}
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(work, parts))
            found = amounts(influx, target)
            assert found.keys() == written
            assert set(found.values()) == {1}


def test_a_turn_whose_owner_was_killed_ends_by_itself(
    influx: InfluxAddress, real_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an owner who was only slow finds out."""
    target, first, second = real_backend(), same_instant(5), same_instant(5)
    target.create_checkpoint(Checkpoint(BACKFILL_SHARD))
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.2)
    slow = target.transaction(BACKFILL_SHARD)
    tx: Any = slow.__enter__()
    tx.keep()
    tx._held.commit()
    with pytest.raises(TransientBackendError, match="another copy or import"):
        sink_of(target).write(Context(), Slice(label="a part"), [second])
    monkeypatch.setattr(turns, "STALE_SECONDS", 0.0)
    write(target, second)
    tx._held.open()
    with pytest.raises(TransientBackendError, match="another one went on") as caught:
        tx.write(first)
    with contextlib.suppress(TransientBackendError):
        slow.__exit__(caught.type, caught.value, caught.tb)
    write(target, first)
    assert len(amounts(influx, target)) == 10


def test_copies_have_one_slot_however_many_producers(
    real_backend: MakeBackend, source: DjangoDBBackend
) -> None:
    """A history of thousands of processes would be as many times its series otherwise."""
    times = [EVENT_TIME_NS + number * 1000 for number in range(50)]
    bring(source, [frame_of(Producer(1, {}), [time_ns]) for time_ns in times])
    copy(source, real_backend())
    assert books_count("InfluxProducer") == 1


# --- readings


@pytest.fixture
def readings_table(books: str) -> Iterator[None]:
    """Rows of readings, on the source's database; the model is known as a host's would be."""
    written_models.register_model(WeatherStationReading)
    pipeline_readings.install(written_models.target_of)
    with connections[BOOKS].schema_editor() as editor:
        editor.create_model(WeatherStationReading)
    yield
    with connections[BOOKS].schema_editor() as editor:
        editor.delete_model(WeatherStationReading)
    written_models.unregister_model(WeatherStationReading)


READINGS: list[tuple[int, dict[str, Any]]] = [
    (0, {"temperature": 1.5}),
    (0, {"temperature": 1.5}),
    (0, {"temperature": 2.5}),
    (1, {"temperature": 1.0, "pressure": Decimal("1000.10"), "gusts": 3, "visitors": 2**60}),
    (1, {"temperature": -0.5, "pressure": Decimal("1000"), "note": "b", "is_raining": True}),
    (2, {"temperature": 1.5, "humidity": 7, "note": 'é" \\', "extra": {"x": [1, None], "a": 2}}),
    (3, {"temperature": 1.5, "extra": "text"}),
    (4, {"temperature": 3.5, "sunrise": datetime(2024, 3, 30, 6, tzinfo=UTC), "gusts": None}),
]
MOMENT = datetime(2024, 3, 30, 12, tzinfo=UTC)


def add_rows() -> None:
    """Store the readings as rows."""
    for minute, fields in READINGS:
        moment = MOMENT + timedelta(minutes=minute)
        WeatherStationReading._base_manager.using(BOOKS).create(
            device_id=1, timestamp=moment, **fields
        )


def drained(backend: Any) -> None:
    """Have the backend's own drain store them, as capture would have sent them."""
    target, producer = written_models.target_of(WeatherStationReading), Producer(1, {})
    wires = [
        (
            target.measurement,
            ns_from_datetime(MOMENT + timedelta(minutes=minute)),
            {"device_id": "1"},
            {name: scalar(value) for name, value in wire_fields(target, fields).items()},
            None,
        )
        for minute, fields in READINGS
    ]
    names = [target.measurement] * len(wires)
    bring(backend, [producer.frame(0, names, producer.payload(wires))[1]])


def counted(results: Sequence[StepResult]) -> tuple[int, int, int]:
    """Return how many were written, present and refused."""
    return (
        sum(result.rows_written for result in results),
        sum(result.rows_present for result in results),
        sum(result.rows_refused for result in results),
    )


@pytest.mark.usefixtures("readings_table")
def test_readings_are_the_same_by_what_they_say(
    real_backend: MakeBackend, source: DjangoDBBackend
) -> None:
    """Rows have keys and points have ids; two that are equal are two."""
    target, other = real_backend(), real_backend()
    add_rows()
    assert Selection("weatherstation", ALL).model is WeatherStationReading
    assert counted(copy(source, target, "weatherstation")) == (8, 0, 0)
    assert counted(copy(source, target, "weatherstation")) == (0, 8, 0)
    assert counted(copy(target, other, "weatherstation")) == (8, 0, 0)
    assert counted(copy(source, other, "weatherstation")) == (0, 8, 0)
    keys = []
    for backend in (source, target, other):
        end = source_of(backend, Selection("weatherstation", ALL))
        keys.append(sorted(e.id for slice_ in end.slices() for p in end.read(slice_) for e in p))
    assert keys[0] == keys[1] == keys[2]
    found = [
        {name: value for name, value in row.items() if name not in ("id", "created_at")}
        for row in target.query_readings(WeatherStationReading, order="timestamp")
    ]
    rows = WeatherStationReading._base_manager.using(BOOKS).order_by("timestamp").values()
    right = [{name: row[name] for name in found[0]} for row in rows]
    assert sorted(map(repr, found)) == sorted(map(repr, right))


@pytest.mark.usefixtures("readings_table")
def test_readings_that_the_drain_has_brought_are_left_alone(
    real_backend: MakeBackend, source: DjangoDBBackend
) -> None:
    target = real_backend()
    add_rows()
    drained(target)
    assert counted(copy(source, target, "weatherstation")) == (0, 8, 0)
    assert len(target.query_readings(WeatherStationReading)) == 8


@pytest.mark.usefixtures("readings_table")
def test_readings_of_a_memory(real_backend: MakeBackend) -> None:
    """Whose events have ids of their own."""
    target, memory = real_backend(), MemoryBackend("memory", {})
    drained(memory)
    assert counted(copy(memory, target, "weatherstation")) == (8, 0, 0)
    assert counted(copy(memory, target, "weatherstation")) == (0, 8, 0)


@pytest.mark.usefixtures("readings_table")
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_equal_readings_of_which_some_were_written(
    real_backend: MakeBackend,
    source: DjangoDBBackend,
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
) -> None:
    target = real_backend(LINES_MAX=1)
    add_rows()
    cut_cable(monkeypatch, failing)
    with pytest.raises(TransientBackendError):
        copy(source, target, "weatherstation")
    written, present, _ = counted(copy(source, target, "weatherstation"))
    assert written + present == 8 == len(target.query_readings(WeatherStationReading))
