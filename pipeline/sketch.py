"""A mergeable sketch of numbers, from which percentiles are read with a bounded relative error.

Each number counts in a bin of logarithmic width, as in DDSketch (Masson, Rim, Lee: "DDSketch: A
fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019): positive
numbers in bin ``ceil(log(x) / log(GAMMA))``, negative ones the same way on their own side. Every
number of a bin is within ``RELATIVE_ERROR`` of the bin's middle; merging adds counts, and loses
nothing. Databases compute the bins of rows with the same formula.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

RELATIVE_ERROR = 0.0095
"""Promised is 1 %; the rest is room for a logarithm that falls on the other side of a bin."""
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
LN_GAMMA = math.log(GAMMA)
SIDE = 100_000
"""Bin ``b`` of positive numbers is ``SIDE + b``, of negative ones ``-SIDE - b``; 0 is zero's.

Doubles reach from bin -39,200 to 37,400.
"""

_decode = msgspec.msgpack.Decoder(tuple[list[int], list[int]]).decode


def bin_of(number: float) -> int:
    """Return the bin that a finite number counts in."""
    if number == 0:
        return 0
    place = SIDE + math.ceil(math.log(abs(number)) / LN_GAMMA)
    return place if number > 0 else -place


def middle_of(place: int) -> float:
    """Return the number that stands for a bin."""
    if place == 0:
        return 0.0
    size = math.exp(min((abs(place) - SIDE) * LN_GAMMA, 709.78)) * 2 / (GAMMA + 1)
    return size if place > 0 else -size


class Sketch:
    """Counts by bin."""

    __slots__ = ("bins",)

    def __init__(self, bins: Mapping[int, int] | None = None) -> None:
        """Take counts by bin (see :func:`bin_of`)."""
        self.bins = Counter(bins or {})

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Sketch:
        """Return the sketch of finite numbers."""
        return cls(Counter(map(bin_of, numbers)))

    @classmethod
    def decode(cls, data: bytes) -> Sketch:
        """Undo :meth:`encode`.

        Raises:
            ValueError: it is none.
        """
        try:
            steps, counts = _decode(data)
        except msgspec.MsgspecError as error:
            raise ValueError(f"this is no sketch: {error}") from error
        bins: dict[int, int] = {}
        place = 0
        for step, count in zip(steps, counts, strict=True):
            place += step
            bins[place] = count
        return cls(bins)

    def merge_encoded(self, data: bytes) -> None:
        """Do as ``merge(Sketch.decode(data))``, in a third of the time.

        Raises:
            ValueError: it is no sketch.
        """
        try:
            steps, counts = _decode(data)
        except msgspec.MsgspecError as error:
            raise ValueError(f"this is no sketch: {error}") from error
        bins = self.bins
        if not bins:
            bins.update(dict(zip(itertools.accumulate(steps), counts, strict=True)))
            return
        known = bins.get
        for place, count in zip(itertools.accumulate(steps), counts, strict=True):
            bins[place] = known(place, 0) + count

    def encode(self) -> bytes:
        """Return it in few bytes: ascending bins as differences, and their counts."""
        places = sorted(self.bins)
        steps = [place - before for before, place in zip([0, *places], places, strict=False)]
        return msgspec.msgpack.encode((steps, [self.bins[place] for place in places]))

    def merge(self, other: Sketch) -> None:
        """Add what another one has counted."""
        self.bins.update(other.bins)

    @property
    def count(self) -> int:
        """How many numbers there are in it."""
        return self.bins.total()

    def percentile(self, percent: int) -> float | None:
        """Return a percentile, between two ranks as ``percentile_cont`` does it.

        Args:
            percent: 0 to 100.

        Returns:
            Within 1 % of the percentile of the numbers themselves, where the two ranks have
            the same sign; ``None`` of no numbers.
        """
        count = self.count
        if not count:
            return None
        rank, rest = divmod(percent * (count - 1), 100)
        places = sorted(self.bins)
        seen = list(itertools.accumulate(map(self.bins.__getitem__, places)))
        low = middle_of(places[bisect_right(seen, rank)])
        if not rest:
            return low
        high = middle_of(places[bisect_right(seen, rank + 1)])
        return low + (high - low) * (rest / 100)
