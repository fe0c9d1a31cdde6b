"""The marks of a batch: which point each of its events is, by the books."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from tailrace.backends.line_protocol import Encoded, Marks
from tailrace.pipeline.event import Event

from .identity import (
    Identity,
    Lanes,
    Place,
    copied_places,
    is_measured,
    lane_of,
    measured_times_ns,
    places_of,
    replayed_identity,
    set_identity,
    slot_tag,
)
from .line_columns import number_texts


class Places(Protocol):
    """Where that is kept which identities follow from."""

    is_replay: bool
    is_copy: bool
    identities: dict[bytes, Identity]

    def reserve(self) -> None: ...
    def places(self, wanted: Collection[Place]) -> Mapping[Place, tuple[int, Lanes]]: ...


LookUp = Callable[[Sequence[Event]], Mapping[bytes, Identity]]
"""Returns what those of some events that are stored already are stored as."""


class _Placed(NamedTuple):
    """An event whose point follows from lanes."""

    event: Event
    is_refused: bool
    series: str
    slot: int
    lanes: Lanes


def marks(books: Places, events: Sequence[Event], encoded: Encoded, look_up: LookUp) -> Marks:
    """Return what tells these events apart from all others, and is the same for ever.

    Args:
        books: Of the transaction that the events belong to; slots are committed there.
        events: In the order of their stream; at least one.
        encoded: What was made of them. Those that are refused have their share in the numbers of
            lanes, too: numbers must not depend on which of a batch the server refuses.
        look_up: Asked about events that may have been written before in another order.
    """
    ids = [event.id for event in events]
    times = [event.time_ns for event in events]
    own = copied_places(times) if books.is_copy else places_of(ids, times)
    places = books.places(set(own))
    tags = _slot_tags(places, own)
    marked = measured_times_ns(ids, times)
    for at, identity in _identities(books, events, encoded, own, places, look_up).items():
        marked[at] = identity.time_ns
        if identity.burst or identity.slot != places[own[at]][0]:
            tags = tags or [""] * len(events)
            tags[at] = identity.tags
    for at in encoded.reasons:
        marked[at] = 0  # which has no line; its time may be none that can be written
    return Marks([own.hex() for own in ids], number_texts(marked), tags)


def _slot_tags(places: Mapping[Place, tuple[int, Lanes]], own: Sequence[Place]) -> list[str] | None:
    if not any(slot for slot, _ in places.values()):
        return None
    tags = {place: slot_tag(slot) for place, (slot, _) in places.items()}
    return [tags[place] for place in own]


def _identities(
    books: Places,
    events: Sequence[Event],
    encoded: Encoded,
    own: Sequence[Place],
    places: Mapping[Place, tuple[int, Lanes]],
    look_up: LookUp,
) -> Mapping[int, Identity]:
    """Return the identities of copies, of dead letters, and of events whose time somebody set."""
    if books.is_replay:
        # One of them may have been copied meanwhile.
        found = look_up([e for at, e in enumerate(events) if at not in encoded.reasons])
        return {
            at: found.get(event.id) or replayed_identity(event, places[own[at]][0])
            for at, event in enumerate(events)
        }
    from_lanes = [
        at for at, event in enumerate(events) if books.is_copy or not is_measured(event.time_ns)
    ]
    if not from_lanes:
        return {}
    series, known = encoded.series(), books.identities
    placed = [
        _Placed(events[at], at in encoded.reasons, series[at], *places[own[at]])
        for at in from_lanes
    ]
    _find_old(books, placed, look_up)
    for event, _, own_series, slot, lanes in placed:
        if event.id not in known:
            number = lanes.number(event, lane_of(own_series))
            known[event.id] = set_identity(event, slot, number)
    books.reserve()
    return {at: known[events[at].id] for at in from_lanes}


def _find_old(books: Places, placed: Sequence[_Placed], look_up: LookUp) -> None:
    """Find the identities of events that may have been written before, in another order.

    So may all copies; and events before which frames are gone: a drain may have written those with
    them, and have died before its books, and Redis may have lost its memory then.
    """
    doubtful = [
        each
        for each in placed
        if each.event.id not in books.identities
        and not each.is_refused
        and (books.is_copy or each.lanes.may_be_old(each.event))
    ]
    if not doubtful:
        return
    found = look_up([each.event for each in doubtful])
    for event, _, series, slot, lanes in doubtful:
        identity = found.get(event.id)
        if identity is None:
            continue
        books.identities[event.id] = identity
        if identity.slot == slot:  # or else it is a copy, or was one
            lanes.learn(event, lane_of(series), identity)
