"""PostgreSQL, and TimescaleDB with it."""

from __future__ import annotations

from .base import EPOCH_SECONDS, Dialect, Number, Sql

_IS_WHOLE = "scale(n) = 0 AND n >= -9223372036854775808 AND n <= 9223372036854775807"


class PostgresDialect(Dialect):
    """Numbers in jsonb are ``numeric``: exact, and beyond the range of doubles while adding."""

    has_percentile_cont = True
    # No fence (OFFSET 0): it makes one process faster, and keeps others from helping it.
    null = "NULL::float8"

    def seconds(self, time: str) -> str:
        return f"(floor(extract(epoch FROM {time}))::bigint + {EPOCH_SECONDS})"

    def months(self, seconds: str) -> str:
        moment = f"(timestamp '0001-01-01' + ({seconds}) * interval '1 second')"
        return f"(extract(year FROM {moment})::int * 12 + extract(month FROM {moment})::int - 1)"

    def quotient(self, dividend: str, divisor: int) -> str:
        return f"({dividend}) / {divisor:d}"

    def tag(self, column: str, name: str) -> Sql:
        return Sql(f"({column} ->> %s::text)", (name,))

    def field(self, column: str, name: str) -> Number:
        value = f"({column} -> %s::text)"
        return Number(
            value=Sql(
                f"CASE WHEN jsonb_typeof({value}) = 'number' THEN {value}::numeric END",
                (name, name),
            ),
            kind=Sql("NULL"),
            join=Sql(""),
            whole=f"CASE WHEN {_IS_WHOLE} THEN n END",
            other=f"CASE WHEN NOT ({_IS_WHOLE}) THEN n END",
            exists=Sql(f"jsonb_typeof({value}) <> 'null'", (name,)),
        )

    def finite(self, number: str) -> str:
        return (
            f"CASE WHEN {number} > '-Infinity'::float8 AND {number} < 'Infinity'::float8 "
            f"THEN {number} END"
        )

    def whole_sums(self, number: str) -> tuple[str, ...]:
        return (f"SUM({number}::numeric)",)
