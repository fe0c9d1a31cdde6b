"""The marks of a batch: which point each of its events is, by the books."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from tailrace.backends.line_protocol import Encoded, Marks
from tailrace.pipeline.event import Event

from .identity import (
    PRODUCER_BYTES,
    Identity,
    Lanes,
    Place,
    is_measured,
    lane_of,
    measured_times_ns,
    place_of,
    places_of,
    replayed_identity,
    set_identity,
    slot_tag,
)
from .line_columns import number_texts


class Places(Protocol):
    """Where that is kept which identities follow from."""

    is_replay: bool
    identities: dict[bytes, Identity]

    @property
    def after_gap(self) -> Collection[bytes]: ...
    def places(self, wanted: Collection[Place]) -> Mapping[Place, tuple[int, Lanes]]: ...


LookUp = Callable[[Sequence[Event]], Mapping[bytes, tuple[str, int]]]
"""Returns the burst and time of those of some events that are stored already."""


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
    own_places = places_of(ids, times)
    places = books.places(set(own_places))
    tags = _slot_tags(places, own_places)
    marked = measured_times_ns(ids, times)
    for at, identity in _identities(books, events, encoded, places, look_up).items():
        marked[at] = identity.time_ns
        if identity.burst:
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
    places: Mapping[Place, tuple[int, Lanes]],
    look_up: LookUp,
) -> Mapping[int, Identity]:
    """Return the identities of events whose time somebody set, and of dead letters."""
    if books.is_replay:
        return {
            at: replayed_identity(event, places[place_of(event)][0])
            for at, event in enumerate(events)
        }
    were_set = [at for at, event in enumerate(events) if not is_measured(event.time_ns)]
    if not were_set:
        return {}
    series, known = encoded.series(), books.identities
    own = [events[at] for at in were_set]
    _find_old(books, own, [series[at] for at in were_set], places, look_up)
    for at in were_set:
        event = events[at]
        if event.id not in known:
            slot, lanes = places[place_of(event)]
            known[event.id] = set_identity(event, slot, lanes.number(event, lane_of(series[at])))
    return {at: known[events[at].id] for at in were_set}


def _find_old(
    books: Places,
    events: Sequence[Event],
    series: Sequence[str],
    places: Mapping[Place, tuple[int, Lanes]],
    look_up: LookUp,
) -> None:
    """Find the identities of events that may have been written before, in another order.

    So they may if frames before them are gone: a drain may have written those with them, and have
    died before its books, and Redis may have lost its memory then.
    """
    doubtful = [
        at
        for at, event in enumerate(events)
        if event.id not in books.identities
        and (
            places[place_of(event)][1].may_be_old(event)
            or event.id[:PRODUCER_BYTES] in books.after_gap
        )
    ]
    if not doubtful:
        return
    found = look_up([events[at] for at in doubtful])
    for at in doubtful:
        event = events[at]
        if event.id in found:
            slot, lanes = places[place_of(event)]
            identity = Identity(slot, *found[event.id])
            books.identities[event.id] = identity
            lanes.learn(event, lane_of(series[at]), identity)
