"""Which column, or key, of a record is what of an event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec

from tailrace.pipeline.event import INT_MAX, INT_MIN
from tailrace.pipeline.shown import show

from .drafts import BadRecord, Draft
from .times import TimeReader

ColumnType = Literal["auto", "text", "integer", "float", "boolean"]
COLUMN_TYPES: tuple[str, ...] = get_args(ColumnType)

_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[+-]?(?:0|[1-9][0-9]*|(?=\.))(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
_NUMBER_MAX_CHARS = 400
_BOOLEANS = {"true": True, "false": False}
_BOOLEANS_ASKED_FOR = {
    **_BOOLEANS, "t": True, "f": False, "yes": True, "no": False, "1": True, "0": False,
}  # fmt: skip


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """What each column means. A column is named as in the file's header."""

    time: str = "time"
    """When it happened."""
    measurement: str = ""
    """The measurement of all records; empty, if a column says it."""
    measurement_column: str = "measurement"
    """Says the measurement, if there is none for all."""
    tags: tuple[str, ...] = ()
    """Columns that become tags; their text as it is."""
    fields: tuple[str, ...] = ()
    """Columns that become fields; empty: all that are nothing else."""
    trace_id: str = ""
    """Holds the trace id."""
    id: str = ""
    """Holds the event's id, a UUID; without it, it follows from the file and the place in it."""
    types: Mapping[str, ColumnType] = {}
    """Types of fields that are not to be guessed."""
    constant_tags: Mapping[str, str] = {}
    """Tags for every record."""

    def problems(self, names: tuple[str, ...] | None) -> str:
        """Return what does not fit, as a sentence; empty if all does.

        Args:
            names: The file's columns, if it names them.
        """
        unknown_types = set(self.types.values()) - set(COLUMN_TYPES)
        if unknown_types:
            return f"there are no types {sorted(unknown_types)}; there are {list(COLUMN_TYPES)}"
        if names is None:
            return ""
        wanted = [self.time, *self.tags, *self.fields, *self.types, self.trace_id, self.id]
        wanted += [] if self.measurement else [self.measurement_column]
        missing = [name for name in wanted if name and name not in names]
        if missing:
            return f"the file has no columns {missing}; it has {list(names)}"
        return ""

    def draft(self, row: Mapping[str, Any], times: TimeReader) -> Draft:
        """Return a record's event.

        Args:
            row: Its values by column; texts are given types, others keep theirs. What is
                ``None`` or an empty text is not there.
            times: Reads the time.

        Raises:
            BadRecord: no time, no measurement, or a value that is not of its column's type.
        """
        measurement = self.measurement or row.get(self.measurement_column)
        if measurement is None or measurement == "":
            raise BadRecord(f"no measurement: {self.measurement_column!r} is empty")
        when = row.get(self.time)
        if when is None or when == "":
            raise BadRecord(f"no time: {self.time!r} is empty")
        time_ns = times.read(when)
        tags = dict(self.constant_tags)
        for name in self.tags:
            value = row.get(name)
            if value is not None and value != "":
                tags[name] = value
        taken = self._taken()
        fields: dict[str, Any] = {}
        for name in self.fields or [name for name in row if name not in taken]:
            value = row.get(name)
            if value is not None and value != "":
                fields[name] = self._value(name, value)
        trace_id = row.get(self.trace_id) if self.trace_id else None
        uid = uid_of(row.get(self.id)) if self.id else None
        return Draft(measurement, time_ns, tags, fields, trace_id or None, uid)

    def _taken(self) -> set[str]:
        taken = {self.time, self.trace_id, self.id, "", *self.tags}
        return taken if self.measurement else {*taken, self.measurement_column}

    def _value(self, name: str, value: Any) -> Any:
        if type(value) is not str:
            return value
        kind = self.types.get(name, "auto")
        if kind == "auto":
            return guess(value)
        if kind == "text":
            return value
        text = value.strip()
        if kind == "boolean":
            found: Any = _BOOLEANS_ASKED_FOR.get(text.lower())
        elif kind == "integer":
            found = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
        else:
            found = _float(text)
        if found is None:
            article = "an" if kind == "integer" else "a"
            raise BadRecord(f"column {name!r} is {show(value)}, which is not {article} {kind}")
        return found


def guess(text: str) -> bool | int | float | str:
    """Return a text as what it looks like.

    ``true`` and ``false`` in any case are booleans. Digits are an integer if they fit 64 bits
    and begin with no zero: ``007`` and a number of 25 digits stay text, so that no zip code and
    no serial number is bent. A point or an exponent makes a float, if it is finite. All else,
    ``NaN`` and ``null`` included, is text.
    """
    stripped = text.strip()
    boolean = _BOOLEANS.get(stripped.lower()) if len(stripped) <= 5 else None
    if boolean is not None:
        return boolean
    if len(stripped) > _NUMBER_MAX_CHARS or not stripped[-1:].isascii():
        return text
    if _INTEGER.fullmatch(stripped):
        number = int(stripped)
        return number if INT_MIN <= number <= INT_MAX else text
    found = _float(stripped) if not stripped.lstrip("+-").isdigit() else None
    return text if found is None else found


def uid_of(value: Any) -> bytes | None:
    """Return the id in a record, 16 bytes; ``None`` if it has none.

    Raises:
        BadRecord: it is no UUID.
    """
    if value is None or value == "":
        return None
    try:
        return UUID(value).bytes
    except (ValueError, AttributeError, TypeError) as error:
        raise BadRecord(f"the id is {show(value)}, which is not a UUID") from error


def _float(text: str) -> float | None:
    if len(text) > _NUMBER_MAX_CHARS or _FLOAT.fullmatch(text) is None or text in ".+-":
        return None
    try:
        number = float(text)
    except ValueError:  # a lonely point
        return None
    return number if number - number == 0.0 else None
