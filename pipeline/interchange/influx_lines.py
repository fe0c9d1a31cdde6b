"""InfluxDB's line protocol, strictly.

``measurement[,tag=value...] field=value[,field=value...] timestamp``, by the public
specification: a special character is escaped where a backslash stands right before it; a
backslash before anything else is itself. What the specification leaves out is refused with the
column where it goes wrong. Line breaks in quoted texts are taken, as the server takes them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .columns import uid_of
from .drafts import BadRecord, Draft
from .times import TimeReader

_BLANK = " \t\r\n"
_STRING_BODY = r'(?:[^"\\]++|\\["\\]|\\)*+'
_MEASUREMENT = re.compile(r"(?:\\[, ]|[^, \n])+")
_KEY = re.compile(r"(?:\\[,= ]|[^,= \n])+")
_STRING = re.compile(rf'"({_STRING_BODY})"')
_INTEGER = re.compile(r"([+-]?[0-9]{1,20})[iu]")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_BOOLEAN = re.compile(r"true|True|TRUE|t|T|false|False|FALSE|f|F")
_END = re.compile(r"[, ]|\Z")
_TIMESTAMP = re.compile(r" +(-?[0-9]{1,20}) *\Z")
_ESCAPED = re.compile(r"\\([,= ])")
_ESCAPED_IN_NAME = re.compile(r"\\([, ])")
_ESCAPED_IN_STRING = re.compile(r'\\(["\\])')

# The same, as far as needed to see whether a text is open at the end of a line.
_HEAD = re.compile(rb"(?:\\ |[^ ])*+")
_TO_STRING = re.compile(rb'(?:(?!(?<!\\)=").)*+="', re.DOTALL)
_TO_QUOTE = re.compile(rb'(?:[^"\\]++|\\["\\]|\\)*+"')


class Names(NamedTuple):
    """Tags or fields that are no such thing here."""

    trace_id: str = ""
    """Holds the trace id."""
    id: str = ""
    """Holds the event's id, a UUID."""


class LineProtocolFormat:
    """The lines of one file."""

    def __init__(self, times: TimeReader, names: Names = Names()) -> None:  # noqa: B008 - frozen
        """Say what is not in the lines.

        Args:
            times: Reads timestamps: how precise they are.
            names: What is not an ordinary tag or field.
        """
        self._times = times
        self._names = names

    def goes_on(self, line: bytes, is_open: bool) -> bool:
        """Return whether a quoted text is open at the end of the line."""
        return ends_in_string(line, is_open)

    def parse(self, record: bytes) -> Draft | None:
        """Return what a line says; nothing for an empty one or a comment.

        Raises:
            BadRecord: it is not line protocol, or has no timestamp.
        """
        try:
            text = record.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRecord(f"not in UTF-8: {error.reason}") from error
        text = text.strip(_BLANK)
        if not text or text.startswith("#"):
            return None
        measurement, tags, fields, timestamp = _Scanner(text).line()
        trace_id = self._take(self._names.trace_id, tags, fields)
        uid = uid_of(self._take(self._names.id, tags, fields))
        return Draft(measurement, self._times.read(timestamp), tags, fields, trace_id, uid)

    def _take(self, name: str, tags: dict[str, str], fields: dict[str, Any]) -> Any:
        if not name:
            return None
        return tags.pop(name, None) or fields.pop(name, None)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def line(self) -> tuple[str, dict[str, str], dict[str, Any], int]:
        name = self._take(_MEASUREMENT, "a measurement")
        tags: dict[str, str] = {}
        while self._skip(","):
            key, value = self._key("tag"), self._take(_KEY, "the tag's value")
            self._put(tags, key, _ESCAPED.sub(r"\1", value), "tag")
        self._spaces()
        fields: dict[str, Any] = {}
        while True:
            key = self._key("field")
            self._put(fields, key, self._value(), "field")
            if not self._skip(","):
                break
        found = _TIMESTAMP.match(self._text, self._at)
        if found is None:
            raise self._error("a timestamp, and nothing behind it")
        return _ESCAPED_IN_NAME.sub(r"\1", name), tags, fields, int(found.group(1))

    def _key(self, what: str) -> str:
        key = self._take(_KEY, f"the name of a {what}")
        if not self._skip("="):
            raise self._error(f"= behind the name of a {what}")
        return _ESCAPED.sub(r"\1", key)

    def _value(self) -> Any:
        text, at = self._text, self._at
        if text.startswith('"', at):
            string = _STRING.match(text, at)
            value: Any = _ESCAPED_IN_STRING.sub(r"\1", string.group(1)) if string else None
            return self._ended(string, value, "a text in quotes")
        integer = _INTEGER.match(text, at)
        if integer is not None:
            unsigned = integer.group().endswith("u")
            number = int(integer.group(1))
            if unsigned and integer.group(1)[0] in "+-":
                raise self._error("an unsigned integer without a sign")
            return self._ended(integer, number, "an integer")
        number_found = _FLOAT.match(text, at)
        if number_found is not None:
            return self._ended(number_found, self._finite(number_found.group()), "a number")
        boolean = _BOOLEAN.match(text, at)
        return self._ended(boolean, boolean is not None and boolean.group()[0] in "tT", "a value")

    def _ended(self, found: re.Match[str] | None, value: Any, what: str) -> Any:
        if found is None or _END.match(self._text, found.end()) is None:
            raise self._error(what)
        self._at = found.end()
        return value

    def _finite(self, text: str) -> float:
        number = float(text)
        if number - number != 0.0:
            raise self._error("a number that 64 bits hold")
        return number

    def _take(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._error(what)
        self._at = found.end()
        return found.group()

    def _skip(self, character: str) -> bool:
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def _spaces(self) -> None:
        start = self._at
        while self._skip(" "):
            pass
        if self._at == start:
            raise self._error("a space before the fields")

    def _put(self, items: dict[str, Any], key: str, value: Any, what: str) -> None:
        if key in items:
            raise BadRecord(f"the {what} {key!r:.100} is there twice")
        items[key] = value

    def _error(self, expected: str) -> BadRecord:
        return BadRecord(f"not line protocol: expected {expected} at column {self._at + 1}")


def ends_in_string(line: bytes, is_open: bool) -> bool:
    """Return whether a line ends within a quoted text.

    Args:
        line: The line, with its line break.
        is_open: Whether it begins within one.
    """
    position = 0
    if not is_open:
        if b'="' not in line or line.lstrip().startswith(b"#"):
            return False
        head = _HEAD.match(line)
        position = head.end() if head is not None else 0
    while True:
        if is_open:
            closing = _TO_QUOTE.match(line, position)
            if closing is None:
                return True
            position = closing.end()
        opening = _TO_STRING.match(line, position)
        if opening is None:
            return False
        position, is_open = opening.end(), True
