"""SQL as django-silk keeps it: with the values of its parameters put in, unquoted.

Where a value ends cannot be told, and it may be a password hash or a page of JSON. So only what
the ORM itself writes is kept: keywords, functions, and names in quotes; behind the first
``WHERE``, ``SET`` or ``VALUES``, where values stand, only names that a table's name stands
before. All else is a question mark.
"""

from __future__ import annotations

import re

from tailrace.django_integration.recorders.sql_text import (
    RAW_SQL_MAX_CHARS,
    SQL_MAX_CHARS,
    describe,
)

_NAME = r'(?:"[A-Za-z_][\w$]{0,63}"|`[A-Za-z_][\w$]{0,63}`)'
_TOKEN = re.compile(
    rf"(?P<qualified>{_NAME}\.{_NAME})|(?P<name>{_NAME})|(?P<space>\s+)|(?P<word>\w+)"
    r"|(?P<mark>[(),*]|[<>!]?=|[<>])|(?P<other>.)",
    re.DOTALL,
)
_VALUES_FROM = {"WHERE", "SET", "VALUES", "HAVING"}
_KEYWORDS = _VALUES_FROM | {
    "SELECT", "DISTINCT", "FROM", "AS", "JOIN", "INNER", "LEFT", "RIGHT", "OUTER", "FULL",
    "CROSS", "ON", "AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "BETWEEN",
    "ESCAPE", "EXISTS", "GROUP", "ORDER", "BY", "ASC", "DESC", "LIMIT", "OFFSET", "UNION",
    "ALL", "CASE", "WHEN", "THEN", "ELSE", "END", "INSERT", "INTO", "UPDATE", "DELETE",
    "RETURNING", "FOR", "COUNT", "SUM", "AVG", "MIN", "MAX", "COALESCE", "CAST", "UPPER",
    "LOWER", "WITH", "IGNORE", "CONFLICT", "DO", "NOTHING",
}  # fmt: skip


def statement(sql: str) -> tuple[str, str]:
    """Return a statement's operation and what the ORM wrote of it.

    Args:
        sql: As django-silk stored it.
    """
    parts: list[str] = []
    has_values = False
    for token in _TOKEN.finditer(sql[:RAW_SQL_MAX_CHARS]):
        kind, text = token.lastgroup, token.group()
        if kind == "space":
            text = " "
        elif kind == "word":
            has_values = has_values or text in _VALUES_FROM
            text = text if text in _KEYWORDS else "?"
        elif kind == "other" or (kind == "name" and has_values):
            text = "?"
        parts.append(text)
    shown = re.sub(r"\?(?:[ ?,]*\?)+", "?", "".join(parts)).strip()
    return describe(shown, "").operation, shown[:SQL_MAX_CHARS]
