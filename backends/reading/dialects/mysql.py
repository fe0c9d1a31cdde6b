"""MySQL from 8.0 and MariaDB from 10.6 on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from .base import WHOLE_FLOAT_MAX, WHOLE_FLOAT_MIN, Dialect, Number, Sql

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/ -]*", re.ASCII)
_NUMBERS = "('INTEGER', 'UNSIGNED INTEGER', 'DOUBLE', 'DECIMAL')"
_INTEGERS = "('INTEGER', 'UNSIGNED INTEGER')"
_FITS = (
    f"abs(n + 0e0) >= {WHOLE_FLOAT_MIN} AND n + 0e0 >= -{WHOLE_FLOAT_MAX} "
    f"AND n + 0e0 < {WHOLE_FLOAT_MAX}"
)


class MySQLDialect(Dialect):
    """Collations ignore case and trailing spaces: exact comparisons are of bytes."""

    def prepare(self) -> None:
        # The optimizer compares the texts in a statement by their collation, too: it takes
        # a condition on '$."a"' and another one on '$."A"' for the same, and drops one.
        self.connection.ensure_connection()
        session = self.connection.connection
        if not getattr(session, "tailrace_compares_exactly", False):
            with self.connection.cursor() as cursor:
                cursor.execute("SET collation_connection = 'utf8mb4_bin'")
            session.tailrace_compares_exactly = True

    def text(self, expression: str) -> str:
        return f"CAST({expression} AS BINARY)"

    def read_text(self, value: Any) -> Any:
        return value.decode() if isinstance(value, bytes) else value

    def seconds(self, time: str) -> str:
        # From the year 1: the difference is cut towards zero, which is down only above it.
        return f"TIMESTAMPDIFF(SECOND, '0001-01-01 00:00:00', {time})"

    def months(self, seconds: str) -> str:
        moment = f"DATE_ADD('0001-01-01 00:00:00', INTERVAL ({seconds}) SECOND)"
        return f"(YEAR({moment}) * 12 + MONTH({moment}) - 1)"

    def quotient(self, dividend: str, divisor: int) -> str:
        return f"({dividend}) DIV {divisor:d}"

    def extract(self, column: str, name: str) -> Sql:
        """Return the JSON value of the key ``name``."""
        return Sql(f"JSON_EXTRACT({column}, %s)", ("$." + json.dumps(name, ensure_ascii=False),))

    def tag(self, column: str, name: str) -> Sql:
        value = self.extract(column, name)
        return Sql(self.text(f"JSON_UNQUOTE({value.text})"), value.params)

    def field(self, column: str, name: str) -> Number:
        value = self.extract(column, name)
        fits = f"t = 'DOUBLE' AND {_FITS}"
        return Number(
            value=value,
            kind=Sql(f"JSON_TYPE({value.text})", value.params),
            join=Sql(""),
            whole=f"CASE WHEN t IN {_INTEGERS} THEN CAST(n AS DECIMAL(30, 0)) "
            f"WHEN {fits} THEN CAST(n + 0e0 AS SIGNED) END",
            other=f"CASE WHEN t IN {_NUMBERS} AND t NOT IN {_INTEGERS} AND NOT ({_FITS}) "
            "THEN n + 0e0 END",
            exists=Sql(f"JSON_TYPE({value.text}) <> 'NULL'", value.params),
        )

    def double(self, number: str) -> str:
        return f"({number}) + 0e0"


class MariaDBDialect(MySQLDialect):
    """JSON is text there, and a path is compared with the key as it happens to be written.

    ``"é"`` does not find ``"\\u00e9"``, which is how Django writes it, and ``"-x"`` cannot be
    parsed. So that path is only for plain keys; others are looked for among all keys.
    """

    def extract(self, column: str, name: str) -> Sql:
        if _PLAIN_KEY.fullmatch(name):
            return super().extract(column, name)
        place = (
            f"SELECT x.place - 1 FROM JSON_TABLE(JSON_KEYS({column}), '$[*]' COLUMNS ("
            "place FOR ORDINALITY, name VARCHAR(100) CHARACTER SET utf8mb4 PATH '$')) AS x "
            "WHERE CAST(x.name AS BINARY) = CAST(%s AS BINARY)"
        )
        values = f"JSON_EXTRACT({column}, '$.*')"
        return Sql(f"JSON_EXTRACT({values}, CONCAT('$[', ({place}), ']'))", (name,))

    def field(self, column: str, name: str) -> Number:
        found = super().field(column, name)
        kind, value = found.kind, found.value
        # JSON_TYPE('1e-09') is 'INTEGER'.
        real = f"WHEN {kind.text} = 'INTEGER' AND {value.text} REGEXP '[eE]' THEN 'DOUBLE'"
        params = kind.params + value.params + kind.params
        return replace(found, kind=Sql(f"CASE {real} ELSE {kind.text} END", params))
