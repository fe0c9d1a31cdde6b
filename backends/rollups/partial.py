"""What is known of the values of one bucket in one group: enough to merge, and to answer from.

A partial is what :func:`~tailrace.backends.rollups.statement.partials` makes of rows, what a row
of ``RollupBucket`` keeps, and what reads merge. Its finals are those of
``tailrace.backends.reading``: integers exact and apart from other numbers, decimals of decimal
columns; only percentiles, which come from a sketch, are within 1 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

from tailrace.backends.reading.result import DECIMAL_DIGITS, mean, total
from tailrace.pipeline.sketch import Sketch

ROWS = ""
"""As a field: the rows themselves, of which there is nothing but a count."""
COLUMNS = (
    *("count", "wholes", "others", "whole_sum", "other_sum"),
    *("whole_min", "whole_max", "other_min", "other_max", "sketch"),
)
"""Fields of ``RollupBucket``, in the order of :meth:`Partial.from_columns`."""
_EXACT = Context(prec=DECIMAL_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN)
_DECIMAL = "d"

Number = float | Decimal


class Partial:
    """Counts, sums and extremes of values, and where asked for a sketch of them."""

    __slots__ = COLUMNS

    def __init__(
        self,
        count: int = 0,
        *,
        wholes: int = 0,
        others: int = 0,
        whole_sum: int = 0,
        other_sum: Number = 0.0,
        whole_min: int | None = None,
        whole_max: int | None = None,
        other_min: Number | None = None,
        other_max: Number | None = None,
        sketch: Sketch | None = None,
    ) -> None:
        """Take what is known.

        Args:
            count: Values that are not ``None``, of any type; of :data:`ROWS`, rows.
            wholes: How many of them are integers.
            others: How many are other numbers: all floats, or all decimals.
            whole_sum: The exact sum of the integers.
            other_sum: The sum of the other numbers.
            whole_min: The least integer.
            whole_max: The greatest integer.
            other_min: The least of the other numbers.
            other_max: The greatest of the other numbers.
            sketch: Of all numbers; ``None`` where no percentiles are wanted.
        """
        self.count = count
        self.wholes = wholes
        self.others = others
        self.whole_sum = whole_sum
        self.other_sum = other_sum
        self.whole_min = whole_min
        self.whole_max = whole_max
        self.other_min = other_min
        self.other_max = other_max
        self.sketch = sketch

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Partial):
            return NotImplemented
        return self.to_columns() == other.to_columns()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in COLUMNS)
        return f"Partial({shown})"

    def merge(self, other: Partial) -> None:
        """Add what another partial knows, of other rows."""
        self.count += other.count
        if other.wholes:
            self.whole_sum += other.whole_sum
            self.whole_min = _least(self.whole_min, other.whole_min)
            self.whole_max = _greatest(self.whole_max, other.whole_max)
            self.wholes += other.wholes
        if other.others:
            self.other_sum = (
                _sum(self.other_sum, other.other_sum) if self.others else (other.other_sum)
            )
            self.other_min = _least(self.other_min, other.other_min)
            self.other_max = _greatest(self.other_max, other.other_max)
            self.others += other.others
        if other.sketch is not None:
            if self.sketch is None:
                self.sketch = Sketch()
            self.sketch.merge(other.sketch)

    def final(self, function: str, places: int | None = None) -> Any:
        """Return what a function of the values is.

        Args:
            function: Of ``tailrace.backends.reading.arguments.FUNCTIONS``.
            places: Of the column, if it is one of decimals
                (``tailrace.backends.reading.tables.Table.decimal_places``).

        Returns:
            As :meth:`tailrace.backends.reader.Reader.aggregate`; ``None`` where no value is a
            number, or a percentile is asked for and there is no sketch.
        """
        if function == "count":
            return self.count
        if function[1:].isdigit():
            return None if self.sketch is None else self.sketch.percentile(int(function[1:]))
        numbers = self.wholes + self.others
        if not numbers:
            return None
        if function in ("min", "max"):
            return self._extreme(function, places)
        if function == "sum":
            if places is not None:
                return as_decimal(self.other_sum, places)
            return total(self.whole_sum, self.other_sum, self.others)
        return mean(self.whole_sum, self.other_sum, numbers, self.others)

    def _extreme(self, function: str, places: int | None) -> Any:
        whole, other = (
            (self.whole_min, self.other_min)
            if function == "min"
            else (self.whole_max, self.other_max)
        )
        if other is None:
            return whole
        if places is not None:
            return as_decimal(other, places)
        if whole is None:
            return float(other)
        return float(min(whole, other) if function == "min" else max(whole, other))

    def to_columns(self) -> dict[str, Any]:
        """Return it as the fields of ``RollupBucket`` of these names."""
        return {
            "count": self.count,
            "wholes": self.wholes,
            "others": self.others,
            "whole_sum": str(self.whole_sum),
            "other_sum": _text(self.other_sum) if self.others else "0",
            "whole_min": self.whole_min,
            "whole_max": self.whole_max,
            "other_min": _text(self.other_min),
            "other_max": _text(self.other_max),
            "sketch": None if self.sketch is None else self.sketch.encode(),
        }

    @classmethod
    def from_columns(cls, values: Sequence[Any]) -> Partial:
        """Return what a row of ``RollupBucket`` keeps.

        Args:
            values: Those of :data:`COLUMNS`, in their order (``values_list(*COLUMNS)``).

        Raises:
            ValueError: the sketch cannot be read.
        """
        count, wholes, others, whole_sum, other_sum, low, high, least, greatest, sketch = values
        return cls(
            count,
            wholes=wholes,
            others=others,
            whole_sum=int(whole_sum),
            other_sum=number_of(other_sum) or 0.0,
            whole_min=low,
            whole_max=high,
            other_min=number_of(least),
            other_max=number_of(greatest),
            sketch=None if sketch is None else Sketch.decode(bytes(sketch)),
        )


def number_of(text: str) -> Number | None:
    """Return the float or decimal that a text column of ``RollupBucket`` holds."""
    if not text:
        return None
    return Decimal(text[1:]) if text[0] == _DECIMAL else float(text)


def _text(value: Number | None) -> str:
    if value is None:
        return ""
    return f"{_DECIMAL}{value}" if isinstance(value, Decimal) else repr(float(value))


def as_decimal(value: Any, places: int) -> Decimal:
    """Return a number as the decimal that it is; SQLite stores them as doubles."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    return exact.quantize(Decimal(1).scaleb(-places), context=_EXACT)


def _sum(one: Number, other: Number) -> Number:
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return _EXACT.add(one, other)
    return float(one) + float(other)


def _least(one: Any, other: Any) -> Any:
    return other if one is None or (other is not None and other < one) else one


def _greatest(one: Any, other: Any) -> Any:
    return other if one is None or (other is not None and other > one) else one
