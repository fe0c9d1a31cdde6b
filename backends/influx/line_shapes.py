"""Telemetry repeats itself: sorting events by their shape, so that each shape is looked at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from tailrace.pipeline.event import Event

_T = TypeVar("_T")
_packed = msgspec.msgpack.Encoder().encode


class Part(NamedTuple):
    """Events with the same measurement, and fields of the same names and types."""

    measurement: str
    names: tuple[str, ...]
    kinds: tuple[type, ...]
    places: Sequence[int]
    """Where they were among all; a range where they are all."""
    events: Sequence[Event]
    columns: Sequence[Sequence[Any]]
    """Values, by field."""


def parts_of(events: Sequence[Event]) -> Iterator[Part]:
    """Sort events by shape; those of a shape keep their order."""
    for measurement, places in places_by([event.measurement for event in events]).items():
        some = chosen(events, places)
        fields = [event.fields for event in some]
        names = tuple(fields[0])
        columns = _columns(fields, names)
        if columns is not None:
            yield from _by_kind(measurement, names, places, some, columns)
            continue
        for own_names, numbers in places_by([*map(tuple, fields)]).items():
            columns = [[fields[number][name] for number in numbers] for name in own_names]
            own_places, own = chosen(places, numbers), chosen(some, numbers)
            yield from _by_kind(measurement, own_names, own_places, own, columns)


def _columns(fields: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[Any]] | None:
    """Return the values under each name; ``None`` if some events have other names."""
    if set(map(len, fields)) != {len(names)}:
        return None
    try:
        return [[own[name] for own in fields] for name in names]
    except KeyError:
        return None


def _by_kind(
    measurement: str,
    names: tuple[str, ...],
    places: Sequence[int],
    events: Sequence[Event],
    columns: Sequence[Sequence[Any]],
) -> Iterator[Part]:
    found = [set(map(type, column)) for column in columns]
    if all(len(kinds) == 1 for kinds in found):
        kinds = tuple(one.pop() for one in found)
        yield Part(measurement, names, kinds, places, events, columns)
        return
    rows = zip(*columns, strict=True)
    for kinds, numbers in places_by([tuple(map(type, row)) for row in rows]).items():
        own = [chosen(column, numbers) for column in columns]
        own_places, own_events = chosen(places, numbers), chosen(events, numbers)
        yield Part(measurement, names, kinds, own_places, own_events, own)


def tag_keys(events: Sequence[Event]) -> Sequence[Hashable]:
    """Return for each event what its tags are known by: other keys, other tags."""
    try:
        return [_packed(event.tags) for event in events]
    except (UnicodeEncodeError, TypeError):  # a lone surrogate; a class of str's
        return [tuple(event.tags.items()) for event in events]


def places_by(keys: Sequence[_T]) -> Mapping[_T, Sequence[int]]:
    """Return where each key is; a range, if it is everywhere."""
    if len(set(keys)) == 1:
        return {keys[0]: range(len(keys))}
    found: dict[_T, list[int]] = defaultdict(list)
    for at, key in enumerate(keys):
        found[key].append(at)
    return found


def chosen(items: Sequence[_T], places: Sequence[int]) -> Sequence[_T]:
    """Return some items of what places were made for; the items themselves, if it is all."""
    return items if isinstance(places, range) else [items[at] for at in places]
