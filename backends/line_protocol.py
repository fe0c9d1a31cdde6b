r"""Events as lines of InfluxDB's line protocol, on integers and exact text only.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/

Every name and every text goes in such that a parser gets it back: what the protocol has no way to
write (a control character or a backslash in a name, an empty tag) is encoded by
``influx_layout``; what no encoding helps against (a lone surrogate, a NaN, an integer
beyond 64 bits, a name too long for the server) raises :class:`Unencodable`, with the reason.

Telemetry repeats itself: the same measurements and tags, the same fields of the same types. So
the part before the fields is made once a series; fields are gone through column by column, where
one look tells that none of a thousand texts has a quote, and put together by one ``%`` of a
template that is made once a shape.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from tailrace.pipeline.event import INT_MAX, INT_MIN, Event

from .influx_layout import KIND_OF_TYPE, encode_name, encode_text, encode_value, typed_key

KEY_MAX_BYTES = 60_000
"""InfluxDB allows 65,535 for measurement, tags and the name of a field together."""
TIME_MIN_NS, TIME_MAX_NS = INT_MIN + 1_000, INT_MAX - 1_000
"""The ends of 64 bits are InfluxDB's own."""
_CACHE_MAX = 50_000

_TEMPLATES = {int: "%di", float: "%s", str: '"%s"', bool: "%s", type(None): "true"}
_ESCAPE_MEASUREMENT = re.compile(r"([, ])")
_ESCAPE_KEY = re.compile(r"([,= ])")


class Unencodable(ValueError):
    """The event has no line; the text says why."""


def escape_measurement(name: str) -> str:
    """Return an encoded measurement as it stands in a line."""
    return _ESCAPE_MEASUREMENT.sub(r"\\\1", name)


def escape_key(name: str) -> str:
    """Return an encoded tag key, tag value or field key as it stands in a line."""
    return _ESCAPE_KEY.sub(r"\\\1", name)


def escape_text(text: str) -> str:
    """Return a string field's value as it stands between its quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def series_text(measurement: str, tags: Mapping[str, str]) -> str:
    """Return a line up to its fields: measurement and tags, which are sorted by key.

    Raises:
        Unencodable: a name or value cannot be written; says why.
    """
    pairs = sorted((encode_name(key), encode_value(value)) for key, value in tags.items())
    text = ",".join(
        [
            escape_measurement(encode_name(measurement)),
            *(f"{escape_key(key)}={escape_key(value)}" for key, value in pairs),
        ]
    )
    if len(text) > KEY_MAX_BYTES or len(_utf8(text)) > KEY_MAX_BYTES:
        raise Unencodable(
            f"its measurement and tags have more than {KEY_MAX_BYTES} bytes; InfluxDB takes no "
            "longer ones: put long text into a field"
        )
    return text


Field = tuple[str, str, str]
"""Measurement, name and kind (``int``, ``float``, ``str``, ``bool``, ``none``) of a field."""


class Names(Protocol):
    """Says what tags and fields are called in InfluxDB."""

    def learn(self, fields: Collection[Field], series: Collection[Event]) -> None:
        """Get to know fields, and the tags of some events, before they are asked for."""

    def key(self, field: Field) -> str:
        """Return a field's key, not escaped yet."""

    def tags(self, event: Event) -> Mapping[str, str]:
        """Return the tags that an event is stored with, not encoded yet."""


class OwnNames:
    """Everything is called what it is called; for events that each keep to one type."""

    def learn(self, fields: Collection[Field], series: Collection[Event]) -> None:
        """Nothing to learn."""

    def key(self, field: Field) -> str:
        _, name, kind = field
        return typed_key(name, kind) if kind == "none" else encode_name(name)

    def tags(self, event: Event) -> Mapping[str, str]:
        return event.tags


class Series(NamedTuple):
    """A line up to its fields."""

    text: str
    lane: int
    """A number that goes with it; see ``influx_identity.py``."""


class Encoded(NamedTuple):
    """Events as parts of lines, in their order."""

    series: list[Series | None]
    fields: list[str]
    """``name=value,...``; nothing for an event without fields."""
    reasons: dict[int, str]
    """Why there is no line for the event at this position."""


class LineEncoder:
    """Encodes events, with what it has learnt of their series and shapes. Not thread-safe."""

    def __init__(self, names: Names | None = None) -> None:
        """Know nothing yet.

        Args:
            names: Says what tags and fields are called; they keep their own names without.
        """
        self._names = names or OwnNames()
        self._groups: dict[_GroupKey, _Group] = {}
        self._series_count = 0

    def encode(self, events: Sequence[Event]) -> Encoded:
        """Return the parts of each event's line, but for what is added to tell events apart.

        Returns:
            The parts; what cannot be encoded has a reason instead.
        """
        encoded = Encoded([None] * len(events), [""] * len(events), {})
        batch = self._grouped(events)
        parts = [(group, part) for group, places in batch for part in group.parts(events, places)]
        missing = [(group, group.series_into(encoded, events, places)) for group, places in batch]
        self._learn(events, parts, missing)
        for group, places in missing:
            self._series_count += group.make_series(encoded, events, places)
        for group, part in parts:
            texts_into(encoded, group.template(part.kinds), part)
        return encoded

    def _grouped(self, events: Sequence[Event]) -> list[tuple[_Group, list[int]]]:
        if self._series_count > _CACHE_MAX or len(self._groups) > _CACHE_MAX:
            self._groups.clear()
            self._series_count = 0
        # This loop is half of what an event costs. One flat tuple is cheaper than nested ones.
        found: dict[_GroupKey, list[int]] = {}
        get = found.get
        for at, event in enumerate(events):
            key = (event.measurement, *event.tags, None, *event.fields)
            places = get(key)
            if places is None:
                found[key] = [at]
            else:
                places.append(at)
        batch = []
        for key, places in found.items():
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _Group(events[places[0]], self._names)
            batch.append((group, places))
        return batch

    def _learn(
        self,
        events: Sequence[Event],
        parts: list[tuple[_Group, _Part]],
        missing: list[tuple[_Group, list[int]]],
    ) -> None:
        fields: dict[Field, None] = {}
        for group, part in parts:
            fields.update(dict.fromkeys(group.unknown_fields(part.kinds)))
        series: dict[tuple[object, ...], Event] = {}
        for group, places in missing:
            for at in places:
                series.setdefault((group, *events[at].tags.values()), events[at])
        if fields or series:
            self._names.learn(list(fields), list(series.values()))


_GroupKey = tuple[str | None, ...]
_Kinds = tuple[type, ...]


class _Part(NamedTuple):
    """Some events whose fields have the same names and types."""

    kinds: _Kinds
    places: Sequence[int]
    columns: Sequence[Sequence[Any]]


class _Group:
    """What is known of events with the same measurement, tag keys and field names."""

    def __init__(self, event: Event, names: Names) -> None:
        self._measurement = event.measurement
        self._fields = tuple(event.fields)
        self._names = names
        self._series: dict[tuple[str, ...], Series] = {}
        self._templates: dict[_Kinds, str | Unencodable] = {}

    def parts(self, events: Sequence[Event], places: list[int]) -> Iterator[_Part]:
        """Part some events by the types of their fields."""
        dicts = [events[at].fields for at in places]
        # All have the same names in the same order.
        columns = list(zip(*map(dict.values, dicts), strict=True))
        kinds = [set(map(type, column)) for column in columns]
        if all(len(found) == 1 for found in kinds):
            yield _Part(tuple(found.pop() for found in kinds), places, columns)
            return
        parts: dict[_Kinds, list[int]] = defaultdict(list)
        for number, fields in enumerate(dicts):
            parts[tuple(map(type, fields.values()))].append(number)
        for own_kinds, numbers in parts.items():
            own = [[column[number] for number in numbers] for column in columns]
            yield _Part(own_kinds, [places[number] for number in numbers], own)

    def unknown_fields(self, kinds: _Kinds) -> list[Field]:
        """Return the fields of these types, unless they were seen together before."""
        if kinds in self._templates:
            return []
        named = zip(self._fields, kinds, strict=True)
        return [
            (self._measurement, name, KIND_OF_TYPE[kind])
            for name, kind in named
            if kind in KIND_OF_TYPE
        ]

    def template(self, kinds: _Kinds) -> str | Unencodable:
        """Return what fields of these types are put into, or why they cannot be."""
        found = self._templates.get(kinds)
        if found is None:
            try:
                found = ",".join(map(self._field, self._fields, kinds))
            except Unencodable as error:
                found = error
            self._templates[kinds] = found
        return found

    def series_into(
        self, encoded: Encoded, events: Sequence[Event], places: list[int]
    ) -> list[int]:
        """Set the series of some events; return where there is none yet."""
        known, target = self._series, encoded.series
        missing = []
        for at in places:
            try:
                target[at] = known[tuple(events[at].tags.values())]
            except KeyError:
                missing.append(at)
        return missing

    def make_series(self, encoded: Encoded, events: Sequence[Event], places: list[int]) -> int:
        """Make series that were missing, or say why there can be none; return how many."""
        for at in places:
            event = events[at]
            values = tuple(event.tags.values())
            if values not in self._series:
                try:
                    text = series_text(event.measurement, self._names.tags(event))
                except Unencodable as error:
                    encoded.reasons[at] = str(error)
                    continue
                self._series[values] = Series(text, zlib.crc32(text.encode()))
            encoded.series[at] = self._series[values]
        return len(places)

    def _field(self, name: str, kind: type) -> str:
        if kind not in KIND_OF_TYPE:
            raise Unencodable(f"field {name!r:.60} is a {kind.__name__}")
        key = escape_key(self._names.key((self._measurement, name, KIND_OF_TYPE[kind])))
        if len(_utf8(key)) > KEY_MAX_BYTES // 10:
            raise Unencodable(f"the name of field {name!r:.60} is too long for InfluxDB")
        return f"{key.replace('%', '%%')}={_TEMPLATES[kind]}"


def texts_into(encoded: Encoded, template: str | Unencodable, part: _Part) -> None:
    """Put events' fields into a template; find out which of them cannot be."""
    if isinstance(template, Unencodable):
        encoded.reasons.update(dict.fromkeys(part.places, str(template)))
        return
    columns = []
    for kind, column in zip(part.kinds, part.columns, strict=True):
        if kind is not type(None):
            columns.append(_column(encoded, kind, column, part.places))
    if not columns:
        for at in part.places:
            encoded.fields[at] = template % ()
        return
    texts = encoded.fields
    for at, values in zip(part.places, zip(*columns, strict=True), strict=True):
        texts[at] = template % values


def _column(
    encoded: Encoded, kind: type, column: Sequence[Any], places: Sequence[int]
) -> Sequence[Any]:
    if kind is float:
        # An order of magnitude cheaper than repr(), and as exact.
        texts = _json(column)[1:-1].decode()
        if "null" in texts:
            _refuse(encoded, places, column, math.isfinite, "a float that is not finite")
        return texts.split(",")
    if kind is int:
        if min(column) < INT_MIN or max(column) > INT_MAX:
            _refuse(encoded, places, column, _fits, "an integer that does not fit 64 bits")
        return column
    if kind is str:
        together = "".join(column)
        if not together.isascii():
            _check_unicode(encoded, places, column, together)
        if "~" in together or "\r" in together or not all(column):
            column = [encode_text(text) for text in column]
        if '"' in together or "\\" in together:
            return [escape_text(text) for text in column]
    return column


def _check_unicode(
    encoded: Encoded, places: Sequence[int], column: Sequence[str], together: str
) -> None:
    try:
        together.encode()
    except UnicodeEncodeError:
        _refuse(encoded, places, column, _is_unicode, "text that is no Unicode")


def _refuse(
    encoded: Encoded, places: Sequence[int], column: Sequence[Any], is_good: Any, what: str
) -> None:
    for at, value in zip(places, column, strict=True):
        if not is_good(value):
            encoded.reasons[at] = f"it has {what}, which InfluxDB cannot store"


def _fits(value: int) -> bool:
    return INT_MIN <= value <= INT_MAX


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_json = msgspec.json.Encoder().encode


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Unencodable(f"it has text that is no Unicode: {error}") from error
