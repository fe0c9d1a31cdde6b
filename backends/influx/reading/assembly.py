"""Points of InfluxDB put together again: there, each field of an event is a row of its own.

Not by Flux's ``pivot``, which fails where a field is called like a tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tailrace.pipeline.event import Event

from . import flux, stored
from .annotated import Block, Row, table_of
from .selection import Ask, Selection, of_fields

_NOT_NEEDED = ("_start", "_stop", "_measurement")
Series = tuple[tuple[str, str], ...]
"""The tags as they are stored, those of the identity among them."""


def read_events(
    ask: Ask,
    chosen: Selection,
    measurement: str,
    fields: Sequence[str] | None = None,
    times: Sequence[int] | None = None,
) -> Iterator[Event]:
    """Yield the events of a selection, in any order.

    Args:
        ask: Sends a query.
        chosen: Which points.
        measurement: Their measurement.
        fields: Names of the fields to read; all without.
        times: Only those of these instants, in nanoseconds.
    """
    conditions = []
    if fields is not None:
        keys = [key for name in fields for key in stored.all_keys(name)]
        conditions.append(of_fields([*stored.OF_EVERY_EVENT, *keys]))
    steps = [chosen.points(*conditions), flux.drop(_NOT_NEEDED)]
    if times is not None:
        steps.insert(1, flux.at_times(times))
    return assembled(ask(flux.program(flux.pipeline(*steps))), measurement)


def assembled(rows: Iterable[Row], measurement: str) -> Iterator[Event]:
    """Yield the events that rows are of."""
    found: dict[tuple[Series, int], dict[str, Any]] = {}
    place: tuple[Block | None, str] = None, ""
    for block, cells in rows:
        if place != (block, table_of(cells)):
            place = block, table_of(cells)
            series = series_of(block, cells)
            key: str = block.value(cells, "_field")
            at_time, read_time = block.reader("_time")
            at_value, read_value = block.reader("_value")
        values = found.setdefault((series, read_time(cells[at_time])), {})
        values[key] = read_value(cells[at_value])
    while found:
        (series, time_ns), values = found.popitem()
        yield _event(measurement, time_ns, series, values)


def series_of(block: Block, cells: list[str]) -> Series:
    """Return a row's tags as they are stored."""
    return tuple((name, cells[at]) for name, at in block.labels.items() if cells[at])


def _event(
    measurement: str,
    time_ns: int,
    series: Series,
    values: Mapping[str, Any],
) -> Event:
    fields = dict(filter(None, (stored.field(key, value) for key, value in values.items())))
    tags = {
        stored.plain_tag_key(key): stored.plain_tag_value(value)
        for key, value in series
        if key not in stored.HIDDEN_TAGS
    }
    trace = values.get(stored.TRACE) or None
    return Event(measurement, time_ns, tags, fields, trace, id=stored.event_id(values))
