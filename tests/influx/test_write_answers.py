"""What each answer of the server leads to: done, split, bisect, keep, wait or retry."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from influx.conftest import MakeBackend, books_count
from influx.fake_server import FakeInflux, Scripted
from influx.stored import events_of
from influx.strict_line_protocol import Point

from tailrace.backends.influx.answers import retry_after_seconds
from tailrace.backends.testing import MemoryStream
from tailrace.backends.testing.draining import CONFIG, drain
from tailrace.backends.testing.frames import issue, make_events, wire_event
from tailrace.backends.testing.hooks import moved
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.errors import (
    BackendMisconfigured,
    RejectedEvents,
    TransientBackendError,
)
from tailrace.pipeline.event import Event
from tailrace.pipeline.ledger import Balance
from tailrace.pipeline.producer import Producer

OPEN = Checkpoint(0)


def commit(backend: Any, events: Sequence[Event], position: str = "1-0") -> None:
    """Store one batch."""
    with backend.transaction(0) as tx:
        tx.write(events)
        tx.advance(moved(tx, position), [])


def ids(events: Sequence[Event]) -> set[str]:
    return {str(event.uuid) for event in events}


def stored(fake: FakeInflux) -> set[str]:
    found = [event["id"] for event in events_of(fake.points.values())]
    assert len(set(found)) == len(found), "an event is two points"
    return set(found)


@pytest.fixture
def backend(fake_backend: MakeBackend) -> Any:
    made = fake_backend()
    made.create_checkpoint(OPEN)
    return made


def test_204_is_done_in_one_gzipped_request(backend: Any, fake_influx: FakeInflux) -> None:
    events = make_events(100)
    commit(backend, events)
    assert stored(fake_influx) == ids(events)
    assert len(fake_influx.bodies) == 1
    assert backend.read_checkpoint(0).position == "1-0"


def test_413_is_split_until_it_fits(backend: Any, fake_influx: FakeInflux) -> None:
    fake_influx.lines_max = 7
    events = make_events(100)
    commit(backend, events)
    assert stored(fake_influx) == ids(events)
    sizes = [body.count("\n") + 1 for body in fake_influx.bodies]
    assert sum(size for size in sizes if size <= 7) == 100, "nothing that fitted is sent again"


def test_an_event_that_is_too_large_alone_is_refused(backend: Any, fake_influx: FakeInflux) -> None:
    fake_influx.lines_max = 0
    with pytest.raises(RejectedEvents, match="413") as caught, backend.transaction(0) as tx:
        tx.write(make_events(2))
    assert set(caught.value.reasons) == {0, 1}


def is_odd_number(point: Point) -> bool:
    return bool(point.fields["number"] in (3, 77))


@pytest.mark.parametrize("status", [400, 422])
def test_refused_lines_are_found_and_the_others_stored(
    backend: Any, fake_influx: FakeInflux, status: int
) -> None:
    if status == 400:
        fake_influx.malformed = is_odd_number
    else:
        fake_influx.refuses = is_odd_number
    events = make_events(100)
    with pytest.raises(RejectedEvents, match=str(status)) as caught, backend.transaction(0) as tx:
        tx.write(events)
    assert set(caught.value.reasons) == {3, 77}
    assert stored(fake_influx) == ids(events) - ids([events[3], events[77]])
    assert len(fake_influx.bodies) <= 4 * 7 + 1, "two among a hundred cost log2(n) requests each"


@pytest.mark.parametrize("status", [400, 422])
def test_a_drain_parks_what_is_refused_and_the_books_balance(
    backend: Any, fake_influx: FakeInflux, status: int
) -> None:
    if status == 400:
        fake_influx.malformed = is_odd_number
    else:
        fake_influx.refuses = is_odd_number
    stream, producer = MemoryStream(CONFIG), Producer(1, {})
    for start in range(0, 100, 20):
        frame = issue(producer, [wire_event(number) for number in range(start, start + 20)])
        stream.send(frame.shard, [frame.frame])
    drain(backend, stream)
    totals = list(backend.ledger_totals())
    assert Balance.of((outcome, amount) for _, outcome, amount in totals).is_balanced
    assert {outcome: amount for _, outcome, amount in totals} == {
        "captured": 100,
        "stored": 98,
        "dead_lettered": 2,
    }
    assert books_count("DeadLetter") == 2
    assert len(stored(fake_influx)) == 98


@pytest.mark.parametrize("status", [401, 403, 404])
def test_misconfigured_keeps_the_data_and_says_what_to_change(
    backend: Any, fake_influx: FakeInflux, status: int
) -> None:
    fake_influx.script.extend([Scripted(status)] * 2)
    with pytest.raises(BackendMisconfigured, match=r"OPTIONS\['"):
        commit(backend, make_events(3))
    assert backend.read_checkpoint(0) == OPEN
    fake_influx.script.clear()
    events = make_events(3)
    commit(backend, events)
    assert stored(fake_influx) == ids(events)


def test_a_wrong_token_is_told_without_showing_it(fake_backend: MakeBackend) -> None:
    backend = fake_backend(TOKEN="secret-of-mine")
    backend.create_checkpoint(OPEN)
    with pytest.raises(BackendMisconfigured) as caught:
        commit(backend, make_events(1))
    assert "TOKEN" in str(caught.value)
    assert "secret-of-mine" not in str(caught.value)


def test_a_missing_bucket_is_made(backend: Any, fake_influx: FakeInflux) -> None:
    fake_influx.buckets.clear()
    events = make_events(3)
    commit(backend, events)
    assert fake_influx.buckets == {"bucket": 0}
    assert stored(fake_influx) == ids(events)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for_before_anything_is_asked(
    backend: Any, fake_influx: FakeInflux, status: int, form: str
) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=30)
    value = "30" if form == "seconds" else format_datetime(moment, usegmt=True)
    fake_influx.script.append(Scripted(status, {"Retry-After": value}))
    with pytest.raises(TransientBackendError, match=str(status)) as caught:
        commit(backend, make_events(1))
    assert 25 < caught.value.retry_after_seconds <= 30
    with pytest.raises(TransientBackendError, match="asked for a pause"):
        commit(backend, make_events(1))
    assert not fake_influx.bodies, "the second attempt must not have reached the server"
    assert backend.read_checkpoint(0) == OPEN


def test_after_the_pause_life_goes_on(backend: Any, fake_influx: FakeInflux) -> None:
    fake_influx.script.append(Scripted(503, {"Retry-After": "1"}))
    events = make_events(3)
    started = time.monotonic()
    while True:
        try:
            commit(backend, events)
            break
        except TransientBackendError:
            time.sleep(0.05)
    assert time.monotonic() - started >= 0.9
    assert stored(fake_influx) == ids(events)


@pytest.mark.parametrize(
    "answer",
    [
        Scripted(500),
        Scripted(502),
        Scripted(503),
        Scripted(429),
        Scripted(0),
        Scripted(0, keeps=True),
        Scripted(-1),
        Scripted(-1, keeps=True),
    ],
)
def test_trouble_that_passes_is_tried_again_and_doubles_nothing(
    backend: Any, fake_influx: FakeInflux, answer: Scripted
) -> None:
    fake_influx.script.append(answer)
    events = make_events(50)
    commit(backend, events)
    assert stored(fake_influx) == ids(events)


def test_trouble_that_stays_is_transient_and_keeps_the_data(
    backend: Any, fake_influx: FakeInflux
) -> None:
    fake_influx.script.extend([Scripted(0, keeps=True)] * 3)
    events = make_events(50)
    with pytest.raises(TransientBackendError, match="does not answer"):
        commit(backend, events)
    assert backend.read_checkpoint(0) == OPEN
    commit(backend, events)
    assert stored(fake_influx) == ids(events)


def test_a_server_that_is_down_is_transient(fake_backend: MakeBackend) -> None:
    backend = fake_backend(URL="http://127.0.0.1:1")
    backend.create_checkpoint(OPEN)
    with pytest.raises(TransientBackendError, match="does not answer"):
        commit(backend, make_events(1))
    assert backend.health_check()["status"] == "fail"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("999999", 600),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30),
        ("Saturday, 21-Nov-26 12:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        ("٣", 0),
    ],
)
def test_retry_after(text: str, seconds: float) -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert retry_after_seconds({"Retry-After": text}, now) == seconds
