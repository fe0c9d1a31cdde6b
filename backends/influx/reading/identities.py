"""Which points events are stored as, for who writes them again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tailrace.backends.influx.identity import Identity
from tailrace.backends.influx.layout import BURST_TAG, SLOT_TAG
from tailrace.backends.reading.query import Window
from tailrace.pipeline.event import Event

from . import flux, stored
from .flux import Flux
from .selection import NS_A_MICROSECOND, Ask, bounds_ns, of_fields

_IDS_A_FILTER = 32
"""A filter compares each point with all ids, 0.3 us each; from some twenty on, it is cheaper to be
sent all points of that time."""
_EVENTS_A_QUERY = 10_000
_HOUR_NS = 3_600_000_000_000


def stored_identities(ask: Ask, bucket: str, events: Sequence[Event]) -> Mapping[bytes, Identity]:
    """Return what those of some events that are stored are stored as, by event id.

    Args:
        ask: Sends a query.
        bucket: Where they are.
        events: Which.
    """
    found: dict[bytes, Identity] = {}
    by_hour: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in events:
        by_hour[event.measurement, event.time_ns // _HOUR_NS].append(event)
    for (measurement, _), some in by_hour.items():
        some.sort(key=_time_of)
        for start in range(0, len(some), _EVENTS_A_QUERY):
            found.update(_found(ask, bucket, measurement, some[start : start + _EVENTS_A_QUERY]))
    return found


def stored_ids(ask: Ask, bucket: str, measurement: str, window: Window) -> Iterator[bytes]:
    """Yield the ids of a measurement's events in a window.

    Args:
        ask: Sends a query.
        bucket: Where they are.
        measurement: Whose.
        window: When.
    """
    start_ns, end_ns = bounds_ns(window)
    if start_ns < end_ns:
        query = _points(bucket, measurement, start_ns, end_ns, [])
        for block, cells in ask(flux.program(flux.pipeline(query, flux.keep(["_value"])))):
            yield bytes.fromhex(block.value(cells, "_value"))


def _found(
    ask: Ask, bucket: str, measurement: str, events: Sequence[Event]
) -> dict[bytes, Identity]:
    first, last = (event.time_ns // NS_A_MICROSECOND for event in (events[0], events[-1]))
    wanted = {event.id.hex(): event.id for event in events}
    points = _points(
        bucket,
        measurement,
        first * NS_A_MICROSECOND,
        (last + 1) * NS_A_MICROSECOND,
        [flux.is_one_of("_value", list(wanted))] if len(wanted) <= _IDS_A_FILTER else [],
    )
    query = flux.pipeline(points, flux.keep(["_time", "_value", SLOT_TAG, BURST_TAG]))
    found = {}
    for block, cells in ask(flux.program(query)):
        event_id = wanted.get(block.value(cells, "_value"))
        if event_id is not None:
            found[event_id] = Identity(
                int(block.value(cells, SLOT_TAG) or 0),
                block.value(cells, BURST_TAG) or "",
                block.value(cells, "_time"),
            )
    return found


def _points(
    bucket: str, measurement: str, start_ns: int, end_ns: int, conditions: Sequence[Flux]
) -> Flux:
    names = flux.is_one_of("_measurement", [stored.measurement(measurement)])
    condition = flux.all_of([names, of_fields([stored.ID]), *conditions])
    return flux.pipeline(flux.source(bucket, start_ns, end_ns), flux.where(condition))


def _time_of(event: Event) -> int:
    return event.time_ns
