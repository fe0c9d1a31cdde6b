"""Times as files have them, from and to nanoseconds.

Integer arithmetic throughout: a float of seconds cannot hold a nanosecond of this century.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Literal, get_args

from tailrace.pipeline.event import INT_MAX, INT_MIN
from tailrace.pipeline.shown import show

from .drafts import BadRecord

TimeForm = Literal["iso", "s", "ms", "us", "ns"]
"""ISO 8601, or how much of a second an epoch's number counts."""
TIME_FORMS: tuple[str, ...] = get_args(TimeForm)

_NS_PER_SECOND = 1_000_000_000
_NS_PER_UNIT = {"s": _NS_PER_SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r" ?(?:([Zz])|([+-])([0-9]{2}):?([0-9]{2})?)?)?"
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,2})?")
_TEXT_MAX_CHARS = 64


class TimeReader:
    """Reads the times of one file."""

    def __init__(self, form: TimeForm = "iso", zone: tzinfo | None = None) -> None:
        """Say how times are written.

        Args:
            form: ``iso``, or the unit of a number since 1970.
            zone: Of ISO times that say none; such times are refused without it. Of a time
                that is there twice (clocks go back), the first one is meant.

        Raises:
            ValueError: there is no such form.
        """
        if form not in TIME_FORMS:
            raise ValueError(f"unknown time form {form!r}; there are {', '.join(TIME_FORMS)}")
        self._ns = _NS_PER_UNIT.get(form)
        self._zone = zone

    def read(self, value: Any) -> int:
        """Return a time in nanoseconds since 1970.

        Args:
            value: Text, or a number where the form is a unit.

        Raises:
            BadRecord: it is no such time, or outside of the years 1677 to 2262.
        """
        time_ns = self._iso(value) if self._ns is None else self._number(value, self._ns)
        if not INT_MIN <= time_ns <= INT_MAX:
            raise BadRecord(f"the time {show(value)} is outside of the years 1677 to 2262")
        return time_ns

    def _iso(self, value: Any) -> int:
        text = value.strip() if isinstance(value, str) and len(value) <= _TEXT_MAX_CHARS else ""
        found = _ISO.fullmatch(text)
        if found is None:
            raise BadRecord(
                f"the time is {show(value)}; ISO 8601 is expected (2026-01-31T08:00:00Z), or say "
                "that it is a number of seconds, milliseconds..."
            )
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
        fraction, utc, sign, hours, minutes = found.groups()[6:]
        try:
            zone = UTC if utc else self._offset(sign, hours, minutes, text)
            moment = datetime(year, month, day, hour, minute, second, tzinfo=zone)
            seconds = (moment - _EPOCH) // _SECOND
        except (ValueError, OverflowError) as error:
            raise BadRecord(f"the time {show(value)} does not exist: {error}") from error
        return seconds * _NS_PER_SECOND + int((fraction or "0").ljust(9, "0"))

    def _offset(self, sign: str | None, hours: str, minutes: str | None, text: str) -> tzinfo:
        if sign is not None:
            offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
            return timezone(-offset if sign == "-" else offset)
        if self._zone is None:
            raise BadRecord(f"the time {text!r} says no offset from UTC; name its time zone")
        return self._zone

    def _number(self, value: Any, ns: int) -> int:
        if type(value) is int:
            return value * ns if INT_MIN <= value <= INT_MAX else INT_MAX + 1
        text = repr(value) if type(value) is float else value
        text = text.strip() if isinstance(text, str) and len(text) <= _TEXT_MAX_CHARS else ""
        if _NUMBER.fullmatch(text) is None:
            raise BadRecord(f"the time is {show(value)}; a number since 1970 is expected")
        number = Decimal(text) * ns
        # Bounded before it becomes an integer of as many digits as its exponent says.
        return int(number) if abs(number) <= -INT_MIN else INT_MAX + 1


def iso_from_ns(time_ns: int) -> str:
    """Return a time as ISO 8601 in UTC, with as many digits as it needs: 0, 6 or 9.

    Args:
        time_ns: Nanoseconds since 1970.
    """
    seconds, fraction = divmod(time_ns, _NS_PER_SECOND)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    if fraction == 0:
        return f"{text}Z"
    digits = f"{fraction:09d}"
    return f"{text}.{digits[:6] if digits.endswith('000') else digits}Z"
