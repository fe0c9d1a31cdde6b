"""Dead letters: what could not be stored, kept with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .errors import RejectedEvents
from .event import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ONE_BY_ONE_EVENTS = 8
REASON_MAX_CHARS = 2_000
FRAME_MAX_BYTES = 2**20
"""Of a frame that cannot be read, this much is kept."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One event, or one frame that cannot be read, and why."""

    measurement: str
    reason: str
    event: Event | None = None
    frame: bytes | None = None
    events: int = 1
    """How many events it stands for; 0 where that cannot be known."""
    entry_id: str = ""
    minute: int = 0
    """Minute of the ledger that its events are booked in."""

    @classmethod
    def of_event(cls, event: Event, reason: str, minute: int) -> DeadLetter:
        """Park one event."""
        return cls(
            measurement=event.measurement,
            reason=reason[:REASON_MAX_CHARS],
            event=event,
            minute=minute,
        )


def write_or_reject(
    write: Callable[[Sequence[Event]], None], events: Sequence[Event]
) -> list[tuple[Event, str]]:
    """Write events; find those that the storage refuses by halving.

    One bad event among ``n`` costs about ``2 * log2(n)`` writes more.

    Args:
        write: All or nothing; raises :class:`RejectedEvents`, and can be called again then.
        events: What to write.

    Returns:
        The refused events, each with the storage's reason. All others are written.
    """
    if not events:
        return []
    try:
        write(events)
    except RejectedEvents as error:
        if len(events) == 1:
            return [(events[0], str(error))]
        if error.reasons:
            known = [(events[at], reason) for at, reason in error.reasons.items()]
            rest = [event for at, event in enumerate(events) if at not in error.reasons]
            return known + write_or_reject(write, rest)
        # Few events are tried one by one: where many are bad, that is half the attempts.
        step = 1 if len(events) <= _ONE_BY_ONE_EVENTS else len(events) // 2 + len(events) % 2
        parts = [events[i : i + step] for i in range(0, len(events), step)]
        return [found for part in parts for found in write_or_reject(write, part)]
    return []
