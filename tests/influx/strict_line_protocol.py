"""Line protocol, read as its specification is written, and nothing more lenient.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/

It shares no code with the encoder, so that both would have to be wrong in the same way.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
_INTEGER = re.compile(r"-?[0-9]+i", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_TIME = re.compile(r"-?[0-9]+", re.ASCII)
_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)
_KEY_MAX_BYTES = 65_535


class LineError(ValueError):
    """The line is not what the specification says."""


@dataclass(frozen=True)
class Point:
    """What a line says."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    fields: dict[str, Any]
    time_ns: int

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes it this point and no other."""
        return self.measurement, self.tags, self.time_ns


def parse(body: str) -> list[Point]:
    """Return the points of a body, one a line.

    Raises:
        LineError: with the number of the first line that is none.
    """
    points = []
    for number, line in enumerate(_lines(body), 1):
        try:
            points.append(parse_line(line))
        except LineError as error:
            raise LineError(f"line {number}: {error}: {line[:200]!r}") from error
    return points


def parse_line(line: str) -> Point:
    """Return the point of a line.

    Raises:
        LineError: it is none.
    """
    if line.startswith("#"):
        raise LineError("a comment, which an encoder has no reason to write")
    measurement, rest = _name(line, ", ", ", ")
    if not measurement or measurement.startswith("_"):
        raise LineError("no measurement, or a reserved one")
    tags: list[tuple[str, str]] = []
    while rest[:1] == ",":
        key, rest = _name(rest[1:], "=", ",= ")
        value, rest = _name(_after(rest, "="), ", ", ",= ")
        if not key or not value:
            raise LineError("an empty tag key or value")
        tags.append((key, value))
    if len(line[: len(line) - len(rest)].encode()) > _KEY_MAX_BYTES:
        raise LineError("measurement and tags are too long")
    fields, rest = _fields(_after(rest, " "))
    if not _TIME.fullmatch(_after(rest, " ")):
        raise LineError("no timestamp")
    _check_names([key for key, _ in tags], fields)
    return Point(measurement, tuple(sorted(tags)), fields, int(rest[1:]))


def _lines(body: str) -> list[str]:
    """Split a body at the ends of lines, of which text in quotes may have some."""
    lines, start, is_quoted, at = [], 0, False, 0
    while at < len(body):
        sign = body[at]
        if sign == "\\":
            at += 1
        elif sign == '"' and (is_quoted or _in_fields(body[start:at])):
            is_quoted = not is_quoted
        elif sign == "\n" and not is_quoted:
            lines.append(body[start:at])
            start = at + 1
        at += 1
    if body[start:]:
        lines.append(body[start:])
    return lines


def _in_fields(text: str) -> bool:
    """Return whether the part of a line so far has an unescaped space: fields have begun."""
    return re.search(r"(?<!\\) ", text) is not None


def _name(text: str, ends: str, escapes: str) -> tuple[str, str]:
    """Read a name up to one of ``ends``; a backslash before one of ``escapes`` takes it along."""
    found: list[str] = []
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == "\\" and text[at + 1 : at + 2] in tuple(escapes):
            found.append(text[at + 1])
            at += 2
            continue
        if sign in ends:
            break
        if sign in escapes:
            raise LineError(f"a {sign!r} that is not escaped")
        if sign in "\n\\" or (sign == '"' and ends == "="):
            raise LineError("a line break, a bare backslash, or a quote in a key")
        found.append(sign)
        at += 1
    return "".join(found), text[at:]


def _fields(text: str) -> tuple[dict[str, Any], str]:
    fields: dict[str, Any] = {}
    while True:
        key, rest = _name(text, "=", ",= ")
        if not key or key in fields:
            raise LineError("a field without a key, or one that is there twice")
        fields[key], rest = _value(_after(rest, "="))
        if rest[:1] != ",":
            return fields, rest
        text = rest[1:]


def _value(text: str) -> tuple[Any, str]:
    if text.startswith('"'):
        return _string(text[1:])
    end = min((at for at in (text.find(","), text.find(" ")) if at >= 0), default=len(text))
    word, rest = text[:end], text[end:]
    if word in _BOOLEANS:
        return _BOOLEANS[word], rest
    if _INTEGER.fullmatch(word):
        number = int(word[:-1])
        if not INT_MIN <= number <= INT_MAX:
            raise LineError("an integer beyond 64 bits")
        return number, rest
    if _FLOAT.fullmatch(word) and math.isfinite(float(word)):
        return float(word), rest
    raise LineError(f"a value that is none: {word[:40]!r}")


def _string(text: str) -> tuple[str, str]:
    found: list[str] = []
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == '"':
            return "".join(found), text[at + 1 :]
        if sign == "\\" and text[at + 1 : at + 2] in ('"', "\\"):
            at += 1
            sign = text[at]
        found.append(sign)
        at += 1
    raise LineError("a text that does not end")


def _after(text: str, sign: str) -> str:
    if not text.startswith(sign):
        raise LineError(f"{sign!r} expected at {text[:20]!r}")
    return text[1:]


def _check_names(tags: list[str], fields: dict[str, Any]) -> None:
    if len(set(tags)) < len(tags):
        raise LineError("a tag that is there twice")
    for name in (*tags, *fields):
        if name.startswith("_") or name == "time":
            raise LineError(f"the reserved name {name!r}")
