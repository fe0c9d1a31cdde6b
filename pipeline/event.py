"""The event: one observation, as it travels and as it is stored."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

MEASUREMENT_MAX_CHARS = 100
MEASUREMENTS_MAX = 500
"""Names of measurements in one process: each costs counters in every frame."""
INVALID_MEASUREMENT = "__invalid__"
"""Counts, and dead letters, of events whose own measurement cannot be used."""
KEY_MAX_CHARS = 100
TRACE_ID_MAX_CHARS = 64
DEVICE_TAG = "device_id"
"""The tag of a reading that says which device it is of: as many values as there are devices."""
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
_FLOAT_MAX = 1.7976931348623157e308

# Bounds that the decoder checks in C. NaN fails both comparisons, infinity one of them.
Measurement = Annotated[str, msgspec.Meta(min_length=1, max_length=MEASUREMENT_MAX_CHARS)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_MAX_CHARS)]
Integer = Annotated[int, msgspec.Meta(ge=INT_MIN, le=INT_MAX)]
Number = Annotated[float, msgspec.Meta(ge=-_FLOAT_MAX, le=_FLOAT_MAX)]
Value = bool | Integer | Number | str | None
TraceId = Annotated[str, msgspec.Meta(max_length=TRACE_ID_MAX_CHARS)]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Event(msgspec.Struct, array_like=True, gc=False):
    """One observation.

    On the wire it is an array of the attributes up to ``rejected``; ``id`` follows from the
    frame that carries it, and is set when the frame is decoded.
    """

    measurement: Measurement
    """Name of the family of events, such as ``request`` or ``checkout``."""
    time_ns: Integer
    """When it happened, in nanoseconds since 1970 (UTC)."""
    tags: dict[Key, str]
    """What to group and filter by; few distinct values each."""
    fields: dict[Key, Value]
    """What was measured."""
    trace_id: TraceId | None = None
    """The W3C trace that it belongs to, 32 hexadecimal digits."""
    rejected: str | None = None
    """Why it cannot be stored, found at capture; such an event becomes a dead letter."""
    id: bytes = b""
    """16 bytes, unique for ever: process (8), shard (2), number within both (6)."""

    @property
    def time(self) -> datetime:
        """When it happened, to the microsecond, in UTC."""
        return datetime_from_ns(self.time_ns)

    @property
    def uuid(self) -> uuid.UUID:
        """The id as databases like to store it."""
        return uuid.UUID(bytes=self.id)

    def as_dict(self) -> dict[str, Any]:
        """Return what a reader of the event needs, as plain values."""
        return {
            "measurement": self.measurement,
            "time": self.time,
            "tags": self.tags,
            "fields": self.fields,
            "trace_id": self.trace_id,
            "id": str(self.uuid) if self.id else None,
        }


def datetime_from_ns(time_ns: int) -> datetime:
    """Return the UTC datetime of a time in nanoseconds; digits below 1 us are cut off.

    Integer arithmetic: floats would move one exact millisecond in eight.
    """
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def ns_from_datetime(moment: datetime) -> int:
    """Return an aware datetime as nanoseconds since 1970.

    Raises:
        ValueError: ``moment`` is naive, or outside the years 1677 to 2262 that 64 bits hold.
    """
    if moment.tzinfo is None:
        raise ValueError(
            f"naive datetime {moment.isoformat()}; pass an aware one (django.utils.timezone.now())"
        )
    time_ns = (moment - _EPOCH) // _MICROSECOND * 1000
    if not INT_MIN <= time_ns <= INT_MAX:
        raise ValueError(f"time {moment.isoformat()} is outside of the years 1677 to 2262")
    return time_ns
