"""Events and frames for the suite: made by the real producer, so that the numbers are real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tailrace.pipeline.codec import decode_events, decode_header
from tailrace.pipeline.event import Event
from tailrace.pipeline.producer import Producer

MEASUREMENT = "checkout"
EVENT_TIME_NS = 1_700_000_000_123_456_000
"""A time to the microsecond, which is what every storage keeps."""


class Issued(NamedTuple):
    """One frame that a producer made."""

    shard: int
    frame: bytes
    producer: bytes
    sequence: int
    ids: frozenset[bytes]
    """Ids of its events."""


def wire_event(
    number: int = 0,
    measurement: str = MEASUREMENT,
    tags: Mapping[str, str] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Return an event as the flusher hands it to its producer.

    Args:
        number: Moves its time on by so many microseconds.
        measurement: Its measurement.
        tags: Its tags; some by default.
        fields: Its fields; some by default.
    """
    return (
        measurement,
        EVENT_TIME_NS + number * 1000,
        {"plan": "pro"} if tags is None else dict(tags),
        {"number": number} if fields is None else dict(fields),
        None,
    )


def issue(producer: Producer, events: list[tuple[Any, ...]], offset: int = 0) -> Issued:
    """Let a producer make a frame.

    Args:
        producer: Whose frame it is.
        events: What :func:`wire_event` gave.
        offset: Its number within a flush, which chooses the shard.
    """
    shard, frame = producer.frame(offset, [event[0] for event in events], producer.payload(events))
    return _issued(shard, frame)


def issue_counts(producer: Producer, shard: int = 0) -> Issued:
    """Let a producer make a frame that carries only its totals."""
    return _issued(*producer.counting_frame(shard))


def make_events(count: int, measurement: str = MEASUREMENT) -> list[Event]:
    """Return events as the drain decodes them, with ids that nobody else has."""
    producer = Producer(1, {})
    payload = producer.payload([wire_event(number, measurement) for number in range(count)])
    _, frame = producer.frame(0, [measurement] * count, payload)
    return decode_events(frame, decode_header(frame))


def make_event(**values: Any) -> Event:
    """Return one event as the drain decodes it; see :func:`wire_event` for the arguments."""
    event = wire_event(**values)
    producer = Producer(1, {})
    _, frame = producer.frame(0, [event[0]], producer.payload([event]))
    return decode_events(frame, decode_header(frame))[0]


def _issued(shard: int, frame: bytes) -> Issued:
    header = decode_header(frame)
    ids = frozenset(event.id for event in decode_events(frame, header))
    return Issued(shard, frame, header.producer, header.sequence, ids)
