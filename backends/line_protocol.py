r"""Events as lines of InfluxDB's line protocol, on integers and exact text only.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/

Every name and every text goes in such that a parser gets it back: what the protocol has no way to
write (a control character or a backslash in a name, an empty tag) is encoded by
``influx/layout.py``; what no encoding helps against (a lone surrogate, a NaN, an integer
beyond 64 bits, a name too long for the server) raises :class:`Unencodable`, with the reason.

Telemetry repeats itself: the same measurements and tags, the same fields of the same types. So
the part before the fields is made once a series, what stands between values once a shape, and
values are gone through column by column (``influx/line_shapes.py``, ``influx/line_columns.py``). A
line is one ``join`` of all that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import repeat
from typing import NamedTuple

from tailrace.pipeline.event import INT_MAX, INT_MIN, Event

from .influx.layout import ID_FIELD, KIND_OF_TYPE, TRACE_FIELD
from .influx.line_columns import AFTER, BEFORE, column_texts, escape_text, number_texts
from .influx.line_names import (
    KEY_MAX_BYTES,
    Field,
    Names,
    OwnNames,
    Unencodable,
    escape_key,
    series_text,
    utf8,
)
from .influx.line_shapes import Part, chosen, parts_of, tag_keys

TIME_MIN_NS, TIME_MAX_NS = INT_MIN + 1_000, INT_MAX - 1_000
"""The ends of 64 bits are InfluxDB's own."""
_CACHE_MAX = 50_000


class Marks(NamedTuple):
    """What tells events apart: a text for each of those that were encoded, in their order."""

    ids: Sequence[str]
    """Hexadecimal digits."""
    times: Sequence[str]
    """Nanoseconds since 1970."""
    tags: Sequence[str] | None = None
    """Reserved tags as they stand in a line; ``None`` if no event has any."""

    @classmethod
    def own(cls, events: Sequence[Event]) -> Marks:
        """Return the ids and times that events come with; there must be an event."""
        times = number_texts([event.time_ns for event in events])
        return cls([event.id.hex() for event in events], times)


class Lines(NamedTuple):
    """Lines, and the place of each one's event among those that were encoded."""

    places: Sequence[int]
    texts: Sequence[str]

    def cut(self, start: int, stop: int) -> Lines:
        """Return some of them."""
        return Lines(self.places[start:stop], self.texts[start:stop])


class Block(NamedTuple):
    """Events of one shape, by column."""

    places: Sequence[int]
    series: Sequence[str]
    """Each event's line up to its fields."""
    between: Sequence[str]
    """What stands before, between and after an event's values: one more than there are."""
    columns: Sequence[Sequence[str]]
    """Texts of values, by field."""

    def texts(self, marks: Marks, traces: Sequence[str] | None) -> Iterator[str]:
        """Return the line of each event, from marks and trace fields of all that were encoded."""
        parts: list[Iterable[str]] = [self.series]
        if marks.tags is not None:
            parts.append(chosen(marks.tags, self.places))
        parts += [repeat(f' {ID_FIELD}="'), chosen(marks.ids, self.places)]
        first, *others = self.between
        if traces is not None:
            parts += [repeat('"'), chosen(traces, self.places), repeat(first)]
        else:
            parts.append(repeat('"' + first))
        for column, after in zip(self.columns, others, strict=True):
            parts += [column, repeat(after)]
        parts.append(chosen(marks.times, self.places))
        return map("".join, zip(*parts, strict=False))  # repeat() has no end


class Encoded:
    """Events as the parts of their lines."""

    def __init__(self, events: Sequence[Event]) -> None:
        """Hold nothing of these events yet but their trace ids."""
        self._count = len(events)
        self._traces = _trace_fields(events)
        self.blocks: list[Block] = []
        self.reasons: dict[int, str] = {}
        """Why there is no line for the event at this place."""

    def series(self) -> Sequence[str]:
        """Return each event's line up to its fields; nothing for one that has none."""
        if len(self.blocks) == 1 and isinstance(self.blocks[0].places, range):
            return self.blocks[0].series
        found: dict[int, str] = {}
        for block in self.blocks:
            found.update(zip(block.places, block.series, strict=True))
        return [found.get(at, "") for at in range(self._count)]

    def lines(self, marks: Marks) -> Lines:
        """Return the lines of all events that have one, shape by shape."""
        places: list[int] = []
        texts: list[str] = []
        for block in self.blocks:
            places += block.places
            texts += block.texts(marks, self._traces)
        assert len(texts) == len(places), "a column that is too short would drop events"
        if self.reasons:
            good = [number for number, at in enumerate(places) if at not in self.reasons]
            return Lines([places[number] for number in good], [texts[number] for number in good])
        return Lines(places, texts)


class LineEncoder:
    """Encodes events, with what it has learnt of their series and shapes. Not thread-safe.

    ::

        encoded = LineEncoder().encode(events)
        body = "\\n".join(encoded.lines(Marks.own(events)).texts)
    """

    def __init__(self, names: Names | None = None) -> None:
        """Know nothing yet.

        Args:
            names: Says what tags and fields are called; they keep their own names without.
        """
        self._names = names or OwnNames()
        self._between: dict[_Shape, list[str] | Unencodable] = {}
        self._series: dict[str, dict[Hashable, str]] = defaultdict(dict)
        self._series_count = 0

    def encode(self, events: Sequence[Event]) -> Encoded:
        """Return the parts of each event's line, but for what is added to tell events apart.

        Returns:
            The parts; what cannot be encoded has a reason instead.
        """
        if self._series_count > _CACHE_MAX or len(self._between) > _CACHE_MAX:
            self._series.clear()
            self._between.clear()
            self._series_count = 0
        encoded = Encoded(events)
        parts = [(part, tag_keys(part.events)) for part in parts_of(events)]
        self._learn(parts)
        for part, keys in parts:
            block = self._block(part, keys, encoded.reasons)
            if block is not None:
                encoded.blocks.append(block)
        return encoded

    def _learn(self, parts: Sequence[tuple[Part, Sequence[Hashable]]]) -> None:
        """Have the names learn what is new, and remember what came of it."""
        fields: dict[Field, None] = {}
        series: dict[tuple[str, Hashable], Event] = {}
        for part, keys in parts:
            if _shape(part) not in self._between:
                fields.update(dict.fromkeys(_fields(part)))
            new = set(keys).difference(self._series[part.measurement])
            if new:
                for key, event in zip(keys, part.events, strict=True):
                    if key in new:
                        series.setdefault((part.measurement, key), event)
        if fields or series:
            self._names.learn(list(fields), list(series.values()))
        for (measurement, key), event in series.items():
            with suppress(Unencodable):
                self._series[measurement][key] = self._series_text(event)
                self._series_count += 1

    def _series_text(self, event: Event) -> str:
        return series_text(event.measurement, self._names.tags(event))

    def _block(self, part: Part, keys: Sequence[Hashable], reasons: dict[int, str]) -> Block | None:
        between = self._between.get(_shape(part))
        if between is None:
            between = self._between[_shape(part)] = self._new_between(part)
        if isinstance(between, Unencodable):
            reasons.update(dict.fromkeys(part.places, str(between)))
            return None
        known = self._series[part.measurement]
        series = [known.get(key, "") for key in keys]
        if "" in series:
            self._refuse_series(part, series, reasons)

        def refuse(number: int, reason: str) -> None:
            reasons[part.places[number]] = reason

        columns = [
            column_texts(kind, column, refuse)
            for kind, column in zip(part.kinds, part.columns, strict=True)
            if kind in BEFORE
        ]
        return Block(part.places, series, between, columns)

    def _refuse_series(self, part: Part, series: Sequence[str], reasons: dict[int, str]) -> None:
        for at, event, text in zip(part.places, part.events, series, strict=True):
            if not text:
                try:
                    self._series_text(event)
                except Unencodable as error:
                    reasons[at] = str(error)

    def _new_between(self, part: Part) -> list[str] | Unencodable:
        """Return what stands around the values of a shape, or why it cannot be written."""
        between, before = [], ""
        try:
            for name, kind in zip(part.names, part.kinds, strict=True):
                before += f",{self._key(part.measurement, name, kind)}"
                if kind in BEFORE:
                    between.append(before + BEFORE[kind])
                    before = AFTER[kind]
                else:
                    before += "=true"
        except Unencodable as error:
            return error
        return [*between, before + " "]

    def _key(self, measurement: str, name: str, kind: type) -> str:
        if kind not in KIND_OF_TYPE:
            raise Unencodable(f"field {name!r:.60} is a {kind.__name__}")
        key = escape_key(self._names.key((measurement, name, KIND_OF_TYPE[kind])))
        if len(utf8(key)) > KEY_MAX_BYTES // 10:
            raise Unencodable(f"the name of field {name!r:.60} is too long for InfluxDB")
        return key


_Shape = tuple[str, tuple[str, ...], tuple[type, ...]]


def _shape(part: Part) -> _Shape:
    return part.measurement, part.names, part.kinds


def _fields(part: Part) -> Iterator[Field]:
    for name, kind in zip(part.names, part.kinds, strict=True):
        if kind in KIND_OF_TYPE:
            yield part.measurement, name, KIND_OF_TYPE[kind]


def _trace_fields(events: Sequence[Event]) -> list[str] | None:
    traces = [event.trace_id or "" for event in events]
    together = "".join(traces)
    if not together:
        return None
    if '"' in together or "\\" in together:
        traces = [escape_text(trace) for trace in traces]
    return [f',{TRACE_FIELD}="{trace}"' if trace else "" for trace in traces]
