"""Events in their order, as many as were asked for and few more read than that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tailrace.backends.reading.query import EventQuery
from tailrace.backends.reading.result import plain_fields
from tailrace.pipeline.event import Event

from . import flux, stored
from .assembly import read_events
from .flux import Flux
from .selection import NS_A_MICROSECOND, Ask, Selection, edge_ns, of_fields, times_ns

LOOKED_UP_LIMIT = 100_000
"""Larger limits than this read all that is selected, and cut it here."""
TIMES_A_QUERY = 100
_FIRST_LOOK_NS = 600 * 1_000_000_000
_WIDER = 30


def find_events(ask: Ask, chosen: Selection, asked: EventQuery) -> list[dict[str, Any]]:
    """Return what :meth:`Reader.query` returns of events."""
    found = [
        event_as_row(event, asked)
        for event in first_events(ask, chosen, asked)
        if asked.trace_id is None or event.trace_id == asked.trace_id
    ]
    found.sort(key=lambda row: (row["time"], row["id"]), reverse=asked.descending)
    return found[: asked.limit]


def first_events(ask: Ask, chosen: Selection, asked: EventQuery) -> Iterator[Event]:
    """Yield the events of which the first ones in their order are the answer."""
    measurement = str(asked.source)
    if asked.limit == 0:
        return
    mark = of_fields([stored.ID])
    if asked.trace_id is not None:
        value = Flux(f"{flux.column('_value').text} == {flux.text(asked.trace_id).text}")
        mark = flux.all_of([of_fields([stored.TRACE]), value])
    narrowed = narrow(ask, chosen, mark, asked.limit, descending=asked.descending)
    if narrowed is None:
        return
    if asked.trace_id is None:
        yield from read_events(ask, narrowed, measurement, asked.fields)
        return
    query = flux.program(flux.pipeline(narrowed.points(mark), flux.keep(["_time"])))
    times = sorted(set(times_ns(ask(query))))
    for at in range(0, len(times), TIMES_A_QUERY):
        some = times[at : at + TIMES_A_QUERY]
        there = narrowed.within(some[0], some[-1] + 1)
        yield from read_events(ask, there, measurement, asked.fields, some)


def narrow(
    ask: Ask, chosen: Selection, mark: Flux, limit: int | None, *, descending: bool
) -> Selection | None:
    """Return a selection with a window that has the first points in their order, and their ties.

    Looks at the newest minutes first (or the oldest), then at longer and longer windows.

    Args:
        ask: Sends a query.
        chosen: All that is selected.
        mark: The condition of the one row that a point is counted by.
        limit: How many are needed; all without.
        descending: Whether the newest are the first.

    Returns:
        ``None`` if there are none.
    """
    if limit is None or limit > LOOKED_UP_LIMIT:
        return chosen
    edge = edge_ns(ask, chosen, mark, descending=descending)
    if edge is None:
        return None
    width_ns = _FIRST_LOOK_NS
    while True:
        if descending:
            looked = chosen.within(edge - width_ns, chosen.end_ns)
        else:
            looked = chosen.within(chosen.start_ns, edge + width_ns)
        times = list(times_ns(ask(_first_times(looked, mark, limit, descending=descending))))
        if len(times) == limit:
            return _cut(chosen, times[-1], descending=descending)
        if (looked.start_ns, looked.end_ns) == (chosen.start_ns, chosen.end_ns):
            return chosen
        width_ns *= _WIDER


def _first_times(chosen: Selection, mark: Flux, limit: int, *, descending: bool) -> str:
    of_series = flux.last_rows(limit) if descending else flux.first_rows(limit)
    return flux.program(
        flux.pipeline(
            chosen.points(mark),
            of_series,
            flux.keep(["_time"]),
            flux.first_by_time(limit, descending=descending),
        )
    )


def _cut(chosen: Selection, last_ns: int, *, descending: bool) -> Selection:
    """Return what is not after a time, all of its microsecond included."""
    microsecond = last_ns // NS_A_MICROSECOND * NS_A_MICROSECOND
    if descending:
        return chosen.within(microsecond, chosen.end_ns)
    return chosen.within(chosen.start_ns, microsecond + NS_A_MICROSECOND)


def event_as_row(event: Event, asked: EventQuery) -> dict[str, Any]:
    """Return an event as the answer has it."""
    row = event.as_dict()
    row["fields"] = plain_fields(row["fields"], asked.fields)
    return row
