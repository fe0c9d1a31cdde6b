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
_POINTS_AN_ID = 4
"""Where so many points come for each id, the others are too many: it is asked in halves."""
_EVENTS_A_QUERY = 10_000


def stored_identities(ask: Ask, bucket: str, events: Sequence[Event]) -> Mapping[bytes, Identity]:
    """Return what those of some events that are stored are stored as, by event id.

    Args:
        ask: Sends a query.
        bucket: Where they are.
        events: Which; their times are such as InfluxDB can hold.
    """
    found: dict[bytes, Identity] = {}
    by_measurement: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_measurement[event.measurement].append(event)
    for measurement, some in by_measurement.items():
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
    if len(events) <= _IDS_A_FILTER:
        ids = [event.id.hex() for event in events]
        found = _among(ask, bucket, measurement, events, [flux.is_one_of("_value", ids)])
    else:
        found = _among(ask, bucket, measurement, events, [])
    if found is not None:
        return found
    middle = len(events) // 2
    return {
        **_found(ask, bucket, measurement, events[:middle]),
        **_found(ask, bucket, measurement, events[middle:]),
    }


def _among(
    ask: Ask, bucket: str, measurement: str, events: Sequence[Event], conditions: Sequence[Flux]
) -> dict[bytes, Identity] | None:
    """Look through the points of the events' time; ``None`` if those are too many."""
    first, last = (event.time_ns // NS_A_MICROSECOND for event in (events[0], events[-1]))
    start_ns, end_ns = first * NS_A_MICROSECOND, (last + 1) * NS_A_MICROSECOND
    query = flux.pipeline(
        _points(bucket, measurement, start_ns, end_ns, conditions),
        flux.keep(["_time", "_value", SLOT_TAG, BURST_TAG]),
    )
    wanted = {event.id.hex(): event.id for event in events}
    found = {}
    for number, (block, cells) in enumerate(ask(flux.program(query))):
        if not conditions and number >= _POINTS_AN_ID * len(events):
            return None  # the answer is given up, which ends the query
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
