"""Numbers taken in one by one or in parts, and the exact result of all of them."""

from __future__ import annotations

import math
from array import array
from typing import Any

from tailrace.backends.reading.result import interpolated, mean, plain_number, total

_FLOATS_KEPT = 4_096
VALUES_MAX = 20_000_000
"""Values of which percentiles are computed at once: 160 MB."""


class Numbers:
    """Count, sum and extremes; of integers and of floats apart."""

    __slots__ = ("_floats", "floats", "high", "high_float", "low", "low_float", "whole", "wholes")

    def __init__(self) -> None:
        self.wholes = 0
        self.whole = 0
        self.low: int | None = None
        self.high: int | None = None
        self.floats = 0
        self._floats: list[float] = []
        self.low_float: float | None = None
        self.high_float: float | None = None

    def add(self, value: Any) -> None:
        """Take in one number; what is none is passed over."""
        number = plain_number(value)
        if number is not None:
            self.add_part(1, number, number, number)

    def add_part(self, count: int, added_up: Any, low: Any, high: Any) -> None:
        """Take in what numbers of one type were added up to."""
        if isinstance(added_up, int):
            self.wholes += count
            self.whole += added_up
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)
            return
        self.floats += count
        self._floats.append(added_up)
        if len(self._floats) > _FLOATS_KEPT:
            self._floats = [self._sum()]
        self.low_float = low if self.low_float is None else min(self.low_float, low)
        self.high_float = high if self.high_float is None else max(self.high_float, high)

    def result(self, function: str) -> Any:
        """Return ``min``, ``max``, ``sum`` or ``avg``; ``None`` of nothing."""
        count = self.wholes + self.floats
        if not count:
            return None
        if function == "sum":
            return total(self.whole, self._sum(), self.floats)
        if function == "avg":
            return mean(self.whole, self._sum(), count, self.floats)
        if function == "min":
            found = min(each for each in (self.low, self.low_float) if each is not None)
        else:
            found = max(each for each in (self.high, self.high_float) if each is not None)
        return float(found) if self.floats else found

    def _sum(self) -> float:
        try:
            return math.fsum(self._floats)
        except OverflowError:  # on the way, or at the end
            return sum(self._floats)


class Values:
    """All the numbers of a bucket, eight bytes each, for percentiles."""

    __slots__ = ("_listed",)

    def __init__(self) -> None:
        self._listed = array("d")

    def add(self, value: Any) -> bool:
        """Take in one number; what is none is passed over. Return whether it was one."""
        number = plain_number(value)
        if number is not None:
            self._listed.append(number)
        return number is not None

    def percentile(self, percent: int) -> float | None:
        """Return a percentile as ``percentile_cont`` has it."""
        count = len(self._listed)
        if not count:
            return None
        listed = sorted(self._listed)
        place = percent * (count - 1) // 100
        return interpolated(listed[place], listed[min(place + 1, count - 1)], percent, count)
