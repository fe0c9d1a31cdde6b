"""Counts and checksums of a slice, whatever order its events come in.

The sum of a 64-bit hash of each event: equal multisets of events have equal digests, and an
event that is missing, doubled or changed shows but for one case in 2**64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from tailrace.pipeline.event import Event

_BITS = 64
_MASK = (1 << _BITS) - 1
_encode = msgspec.json.Encoder(order="sorted").encode


def event_hash(event: Event) -> int:
    """Return 64 bits of everything that is stored of an event.

    Storages differ in what they tell apart, so what not all of them do counts as the same:
    times within a microsecond, ``1`` and ``1.0``, a field that is ``None`` and one that is
    not there.
    """
    content = (
        event.id.hex(),
        event.measurement,
        event.time_ns // 1000,
        event.tags,
        canonical_fields(event.fields),
        event.trace_id or "",
    )
    return int.from_bytes(blake2b(_encode(content), digest_size=8).digest(), "big")


def canonical_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as every storage gives them back, apart from their order."""
    canonical = {}
    for name, value in fields.items():
        if type(value) is float:
            # jsonb gives 1e22 back as an integer.
            value = int(value) if value.is_integer() else value
        if value is not None:
            canonical[name] = value
    return canonical


class Digest:
    """The count and checksum of events, added one after the other."""

    def __init__(self) -> None:
        self.rows = 0
        self.total = 0

    def add(self, events: Iterable[Event]) -> None:
        """Add events."""
        for event in events:
            self.rows += 1
            self.total += event_hash(event)

    def __str__(self) -> str:
        return digest_text(self.rows, self.total)


def digest_text(rows: int, total: int) -> str:
    """Return a digest as results keep it: the count and 16 hexadecimal digits.

    Args:
        rows: How many.
        total: Sum of their hashes, of any size or sign.
    """
    return f"{rows}:{int(total) & _MASK:016x}"


def digest_sum(first: str, second: str) -> str:
    """Return the digest of two slices together; of one, where the other has none."""
    if not first or not second:
        return first or second
    (rows_a, total_a), (rows_b, total_b) = first.split(":"), second.split(":")
    return digest_text(int(rows_a) + int(rows_b), int(total_a, 16) + int(total_b, 16))
