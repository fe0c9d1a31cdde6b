"""The contract of a dialect.

Texts that a dialect returns are made of constants and of column names that come from
Django's models, quoted by Django; whatever a caller gave travels as a parameter. A per cent
sign in a text is doubled, since Django's cursors format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from tailrace.pipeline.interval import ORIGIN
from tailrace.pipeline.sketch import LN_GAMMA, SIDE

YEAR_ONE = datetime(1, 1, 1)
EPOCH_SECONDS = int((datetime(1970, 1, 1) - YEAR_ONE).total_seconds())
ORIGIN_SECONDS = int((ORIGIN - YEAR_ONE).total_seconds())
WHOLE_FLOAT_MIN, WHOLE_FLOAT_MAX = "1e16", "9223372036854775808e0"
"""See ``tailrace.backends.reader``: floats that count as integers."""


class Sql(NamedTuple):
    """A piece of SQL and the values for its placeholders."""

    text: str
    params: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Number:
    """How a field is read: once in the innermost SELECT, then told apart."""

    value: Sql
    """What the innermost SELECT calls ``n``."""
    kind: Sql
    """... and ``t``: enough to tell which type it has."""
    join: Sql
    """What the FROM clause needs for that."""
    whole: str
    """An expression of ``n`` and ``t``: the value where it is an integer, else NULL."""
    other: str
    """The value where it is another number, else NULL."""
    exists: Sql
    """A condition: it is neither missing nor NULL, of whatever type."""


class Dialect(ABC):
    """One database's way to say it."""

    has_percentile_cont: ClassVar[bool] = False
    fence: ClassVar[str] = ""
    """Ends a subquery whose expressions are better computed once than where they are used."""
    null: ClassVar[str] = "NULL"
    """NULL where a number is expected."""

    def __init__(self, connection: Any) -> None:
        """Take the Django connection that the SQL is for."""
        self.connection = connection

    def prepare(self) -> None:  # noqa: B027 - a hook: most have nothing to prepare
        """Make the session ready for statements; called before each use of it."""

    def name(self, *parts: str) -> str:
        """Return a name, with its table's before it if given, quoted."""
        quoted = (self.connection.ops.quote_name(part) for part in parts)
        return ".".join(quoted).replace("%", "%%")

    def text(self, expression: str) -> str:
        """Return a text such that ``=`` and GROUP BY compare it character by character."""
        return expression

    def read_text(self, value: Any) -> Any:
        """Return what came back of :meth:`text`."""
        return value

    @abstractmethod
    def seconds(self, time: str) -> str:
        """Return a time as the number of seconds since the year 1 in UTC, rounded down."""

    @abstractmethod
    def months(self, seconds: str) -> str:
        """Return ``12 * year + month - 1`` of a number of seconds since the year 1."""

    @abstractmethod
    def quotient(self, dividend: str, divisor: int) -> str:
        """Return the quotient of an integer that is not negative, rounded down."""

    @abstractmethod
    def tag(self, column: str, name: str) -> Sql:
        """Return the text of the tag ``name``, NULL where there is none; as :meth:`text`."""

    @abstractmethod
    def field(self, column: str, name: str) -> Number:
        """Return how to read the field ``name`` of a JSON column."""

    def typed(self, column: str, kind: str | None) -> Number:
        """Return how to read a column that is of one ``kind``: int, float, decimal or another."""
        return Number(
            value=Sql(column),
            kind=Sql("NULL"),
            join=Sql(""),
            whole="n" if kind == "int" else self.null,
            other=self.null if kind == "int" else self.finite("n") if kind == "float" else "n",
            exists=Sql(f"{column} IS NOT NULL"),
        )

    def finite(self, number: str) -> str:
        """Return a float, NULL if it is NaN or infinite."""
        return number

    def double(self, number: str) -> str:
        """Return a number as a double."""
        return f"CAST({number} AS DOUBLE PRECISION)"

    def bin(self, number: str) -> str:
        """Return the bin of a sketch that a double counts in; NULL of NULL.

        See :func:`tailrace.pipeline.sketch.bin_of`.
        """
        return (
            f"CASE WHEN {number} > 0 THEN {SIDE:d} + CEIL(LN({number}) / {LN_GAMMA!r}) "
            f"WHEN {number} < 0 THEN -{SIDE:d} - CEIL(LN(-({number})) / {LN_GAMMA!r}) "
            f"WHEN {number} = 0 THEN 0 END"
        )

    def whole_sums(self, number: str) -> tuple[str, ...]:
        """Return aggregates of integers from which :meth:`whole_sum` makes the exact sum."""
        return (f"SUM({number})",)

    def whole_sum(self, *sums: Any) -> int:
        """Undo :meth:`whole_sums`."""
        return int(sums[0] or 0)
