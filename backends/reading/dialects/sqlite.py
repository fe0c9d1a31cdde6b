"""SQLite, from 3.31 on with its JSON functions."""

from __future__ import annotations

from typing import Any

from tailrace.pipeline.sketch import bin_of

from .base import EPOCH_SECONDS, WHOLE_FLOAT_MAX, WHOLE_FLOAT_MIN, Dialect, Number, Sql

_WHOLE = (
    "CASE WHEN t = 'integer' AND typeof(n) = 'integer' THEN n WHEN t IN ('integer', 'real') "
    f"AND abs(n) >= {WHOLE_FLOAT_MIN} AND n >= -{WHOLE_FLOAT_MAX} AND n < {WHOLE_FLOAT_MAX} "
    "THEN CAST(n AS INTEGER) END"
)
_OTHER = (
    f"CASE WHEN t IN ('integer', 'real') AND typeof(n) = 'real' AND (abs(n) < {WHOLE_FLOAT_MIN} "
    f"OR n < -{WHOLE_FLOAT_MAX} OR n >= {WHOLE_FLOAT_MAX}) THEN n END"
)
_LOW_BITS = 32
_BIN = "tailrace_bin"


class SQLiteDialect(Dialect):
    """Times are text, JSON is text, integers have 64 bits."""

    # Flattened, the value's CASE stands in every aggregate, and so does strftime(): measured
    # on 150,000 events, 7.0 us an event instead of 1.7 for a mean.
    fence = " LIMIT -1"

    def prepare(self) -> None:
        # LN and CEILING are Python's here, too: Django brings them. One call is faster than two.
        self.connection.ensure_connection()
        self.connection.connection.create_function(_BIN, 1, _bin, deterministic=True)

    def seconds(self, time: str) -> str:
        # Without the fraction: strftime would round it.
        return f"(CAST(strftime('%%s', substr({time}, 1, 19)) AS INTEGER) + {EPOCH_SECONDS})"

    def months(self, seconds: str) -> str:
        moment = f"{seconds} - {EPOCH_SECONDS}, 'unixepoch'"
        return f"(strftime('%%Y', {moment}) * 12 + strftime('%%m', {moment}) - 1)"

    def quotient(self, dividend: str, divisor: int) -> str:
        return f"({dividend}) / {divisor:d}"

    # json_each compares the key itself. A path ('$.key') has no way to write all keys.

    def tag(self, column: str, name: str) -> Sql:
        return Sql(f"(SELECT j.atom FROM json_each({column}) AS j WHERE j.key = %s)", (name,))

    def field(self, column: str, name: str) -> Number:
        return Number(
            value=Sql("f.atom"),
            kind=Sql("f.type"),
            join=Sql(f" JOIN json_each({column}) AS f ON f.key = %s", (name,)),
            whole=_WHOLE,
            other=_OTHER,
            exists=Sql("f.type <> 'null'"),
        )

    def finite(self, number: str) -> str:
        return f"CASE WHEN {number} > -9e999 AND {number} < 9e999 THEN {number} END"

    def double(self, number: str) -> str:
        return f"CAST({number} AS REAL)"

    def bin(self, number: str) -> str:
        return f"{_BIN}({number})"

    # sum() of integers stops at 64 bits: "integer overflow".

    def whole_sums(self, number: str) -> tuple[str, ...]:
        low = (1 << _LOW_BITS) - 1
        return f"SUM({number} >> {_LOW_BITS})", f"SUM({number} & {low})"

    def whole_sum(self, *sums: Any) -> int:
        high, low = sums
        return ((high or 0) << _LOW_BITS) + (low or 0)


def _bin(number: float | None) -> int | None:
    return None if number is None else bin_of(number)
