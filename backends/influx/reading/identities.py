"""Which points events are stored as, for who writes them again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tailrace.backends.influx.layout import BURST_TAG
from tailrace.pipeline.event import Event

from . import flux, stored
from .selection import NS_A_MICROSECOND, Ask, of_fields

_IDS_A_QUERY = 500
_HOUR_NS = 3_600_000_000_000


def stored_identities(
    ask: Ask, bucket: str, events: Sequence[Event]
) -> Mapping[bytes, tuple[str, int]]:
    """Return burst and time of those of some events that are stored, by event id.

    Args:
        ask: Sends a query.
        bucket: Where they are.
        events: Which.
    """
    found: dict[bytes, tuple[str, int]] = {}
    by_hour: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in events:
        by_hour[event.measurement, event.time_ns // _HOUR_NS].append(event)
    for (measurement, _), some in by_hour.items():
        some.sort(key=_time_of)
        for start in range(0, len(some), _IDS_A_QUERY):
            found.update(_found(ask, bucket, measurement, some[start : start + _IDS_A_QUERY]))
    return found


def _found(
    ask: Ask, bucket: str, measurement: str, events: Sequence[Event]
) -> dict[bytes, tuple[str, int]]:
    first, last = (event.time_ns // NS_A_MICROSECOND for event in (events[0], events[-1]))
    query = flux.pipeline(
        flux.source(bucket, first * NS_A_MICROSECOND, (last + 1) * NS_A_MICROSECOND),
        flux.where(
            flux.all_of(
                [
                    flux.is_one_of("_measurement", [stored.measurement(measurement)]),
                    of_fields([stored.ID]),
                    flux.is_one_of("_value", [event.id.hex() for event in events]),
                ]
            )
        ),
        flux.keep(["_time", "_value", BURST_TAG]),
    )
    return {
        bytes.fromhex(block.value(cells, "_value")): (
            block.value(cells, BURST_TAG) or "",
            block.value(cells, "_time"),
        )
        for block, cells in ask(flux.program(query))
    }


def _time_of(event: Event) -> int:
    return event.time_ns
