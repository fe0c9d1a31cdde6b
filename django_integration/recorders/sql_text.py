"""SQL as telemetry shows it: without literals and comments, on one line, bounded.

One pattern walks over the text once and knows just enough of the languages to tell strings,
quoted names, comments and numbers apart. Where a vendor's rules differ the pattern does, too: a
backslash escapes a quote in MySQL, and does not in the others; taking one for the other would
turn a string inside out. What is not closed reaches to the end.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

SQL_MAX_CHARS = 4_096
"""Longer text is cut."""
RAW_SQL_MAX_CHARS = 16_384
"""Text beyond this is not even looked at."""

OTHER = "OTHER"
_OPERATIONS = {
    "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH", "VALUES", "CREATE", "ALTER",
    "DROP", "TRUNCATE", "BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET",
    "SHOW", "EXPLAIN", "CALL", "COPY", "PRAGMA", "LOCK", "VACUUM", "ANALYZE", "REFRESH", "DECLARE",
    "FETCH", "CLOSE",
}  # fmt: skip

_BLOCK_COMMENT = r"/\*(?:[^*/]|\*(?!/)|/(?!\*))*+(?:\*/|.*)"  # nested ones: cut to the end
_SPACE = r"(?P<space>(?:\s|--[^\n]*+|{hash}" + _BLOCK_COMMENT + r")++)"
_PLAIN_STRING = r"'(?:[^']|'')*+'?"
_ESCAPED_STRING = r"'(?:[^'\\]|''|\\.)*+(?:'|\\?\Z)?"
_NUMBER = (
    r"(?<![\w$@:.\"`\]])"  # not in table1, $1, :1
    r"(?:0[xX][0-9a-fA-F]++|(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+)(?!\w)"
)
_NAME = r'(?P<name>"(?:[^"]|"")*+"?|`[^`]*+`?|\w++)'

_STRINGS = {
    "mysql": rf'{_ESCAPED_STRING}|"(?:[^"\\]|""|\\.)*+(?:"|\\?\Z)?',
    "postgresql": (
        rf"[eE]{_ESCAPED_STRING}|{_PLAIN_STRING}"
        r"|\$(?P<tag>(?:[A-Za-z_]\w{0,62})?)\$(?:.*?\$(?P=tag)\$|.*)"
    ),
}
_FOLDED_LIST = re.compile(r"\bIN \((?:(?:\?|%s)(?:, ?|(?=\))))+\)", re.IGNORECASE)
_FOLDED_ROWS = re.compile(r"(\bVALUES ?\([^()]*+\))(?:, ?\([^()]*+\))+", re.IGNORECASE)
_SAVEPOINT = re.compile(r'(SAVEPOINT )(?:"[^"]*"|`[^`]*`|\w+)\Z')
_FIRST_WORD = re.compile(r"[\s(]*([A-Za-z]+)")
# Common table expressions first, then the statement that counts.
_MAIN_VERB = re.compile(r"[()]|\b(?:SELECT|INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)


class Statement(NamedTuple):
    """A statement as it is recorded."""

    operation: str
    sql: str


@functools.lru_cache(maxsize=1024)
def describe(sql: str, vendor: str) -> Statement:
    """Return a statement's operation and its text without literals.

    Args:
        sql: The text that Django gave the database, at most ``RAW_SQL_MAX_CHARS`` of it.
        vendor: Django's name of the database, such as ``postgresql``.
    """
    text = _pattern(vendor).sub(_replacement, sql[:RAW_SQL_MAX_CHARS]).strip(" ;")
    # Lists of another length are the same statement.
    text = _FOLDED_LIST.sub("IN (...)", text)
    text = _FOLDED_ROWS.sub(r"\1, ...", text)
    text = _SAVEPOINT.sub(r"\1?", text)
    if len(text) > SQL_MAX_CHARS:
        text = text[: SQL_MAX_CHARS - 1] + "…"
    return Statement(_operation(text), text)


@functools.cache
def _pattern(vendor: str) -> re.Pattern[str]:
    strings = _STRINGS.get(vendor, _PLAIN_STRING)
    space = _SPACE.replace("{hash}", r"\#[^\n]*+|" if vendor == "mysql" else "")
    return re.compile(rf"{space}|(?P<literal>{strings}|{_NUMBER})|{_NAME}", re.DOTALL)


def _replacement(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "space":
        return " "
    return found.group() if kind == "name" else "?"


def _operation(text: str) -> str:
    first = _FIRST_WORD.match(text)
    word = first.group(1).upper() if first else ""
    if word == "WITH":
        word = _verb_after_with(text)
    return word if word in _OPERATIONS else OTHER


def _verb_after_with(text: str) -> str:
    depth = 0
    for found in _MAIN_VERB.finditer(text):
        token = found.group()
        if token == "(":
            depth += 1
        elif token == ")":
            depth -= 1
        elif depth == 0:
            return token.upper()
    return "WITH"
