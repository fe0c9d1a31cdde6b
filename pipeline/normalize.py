"""From what a caller handed over to what can be stored anywhere.

Runs on the flusher's thread. The fast path only checks: an event whose tag values and field
names were seen before, and whose values have exact, storable types, passes as it is. All else
takes the slow path, which mends what can be mended (and counts it) or marks the event as
rejected with a reason; a rejected event travels on and becomes a dead letter.

What is mended: long strings are cut, NUL and lone surrogates become U+FFFD (PostgreSQL stores
neither, and one of them aborts a whole COPY), tag values beyond the cap become
``__overflow__``. What is rejected: NaN and infinity, integers beyond 64 bits, values of other
types, names that are empty or too long, naive times.
"""

from __future__ import annotations

import enum
import logging
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from .config import Config
from .event import (
    DEVICE_TAG,
    INT_MAX,
    INT_MIN,
    INVALID_MEASUREMENT,
    KEY_MAX_CHARS,
    MEASUREMENT_MAX_CHARS,
    MEASUREMENTS_MAX,
    TRACE_ID_MAX_CHARS,
    ns_from_datetime,
)
from .shown import show, show_error

logger = logging.getLogger("tailrace")

OVERFLOW_TAG = "__overflow__"
_RAW_LENGTH = 5
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

Raw = tuple[Any, Any, Any, Any, Any]
"""``(measurement, time, tags, fields, trace_id)``, or with a function for the tags:
``(measurement, time, finish, raw, trace_id)``, where ``finish(raw)`` gives tags and fields."""

Wire = tuple[str, int, dict[str, str], dict[str, Any], str | None]


def _is_good_trace(trace_id: Any) -> bool:
    return trace_id is None or (
        type(trace_id) is str and len(trace_id) <= TRACE_ID_MAX_CHARS and "\0" not in trace_id
    )


def _are_good_tags(known: _Schema, tags: Any) -> bool:
    if type(tags) is not dict:
        return False
    for key, value in tags.items():
        if value not in known.tags[key] or type(value) is not str:
            return False
    known.good_tags = tags
    return True


class Rejection(ValueError):
    """The event becomes a dead letter; the text is for the person who reads it.

    What makes tags and fields on the flusher's thread may raise it too.
    """


class _Schema:
    """What was seen of one measurement: enough to recognise the next event as good."""

    __slots__ = ("fields", "good_tags", "tags")

    def __init__(self) -> None:
        self.tags: dict[str, set[str]] = {}
        self.fields: set[str] = set()
        self.good_tags: dict[str, Any] | None = None
        """The dict that was found good last: a recorder may hand over the same one again."""


class Normalizer:
    """Checks and mends events. One for each flusher; not thread-safe."""

    def __init__(
        self, config: Config, on_recorder_error: Callable[[str, BaseException], None]
    ) -> None:
        """Start without having seen anything.

        Args:
            config: Gives the bounds.
            on_recorder_error: Told when a recorder's ``finish`` raises; the event is gone.
        """
        self._config = config
        self._on_recorder_error = on_recorder_error
        self._schemas: dict[str, _Schema] = {}
        self._string_max = config.string_max_chars
        self._max_names = config.max_fields * 10
        self.notes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        """Running totals of what was mended, by kind and measurement."""

    def batch(self, raws: list[Raw]) -> list[tuple[Any, ...]]:
        """Return events as they go on the wire; those whose recorder failed are missing."""
        events: list[tuple[Any, ...]] = []
        schemas = self._schemas
        good_trace: Any = None  # the last one that was looked at: events of a request share it
        for raw in raws:
            measurement, time_ns, tags, fields, trace_id = raw
            if type(tags) is not dict and callable(tags):
                try:
                    tags, fields = tags(fields)
                except Rejection as rejection:
                    tags = rejection  # fields are what they could not be made of
                except Exception as error:  # noqa: BLE001 - a recorder's bug costs its event only
                    self._on_recorder_error(measurement, error)
                    continue
                raw = (measurement, time_ns, tags, fields, trace_id)
            try:
                known = schemas[measurement]
                is_good = (
                    type(time_ns) is int
                    and INT_MIN <= time_ns <= INT_MAX
                    and (trace_id is good_trace or _is_good_trace(trace_id))
                    and (tags is known.good_tags or _are_good_tags(known, tags))
                    and type(fields) is dict
                    and self._are_good_fields(known.fields, fields)
                )
            except Exception:  # noqa: BLE001 - not seen before, or an object that acts up
                is_good = False
            if is_good:
                good_trace = trace_id
                events.append(raw)
            else:
                events.append(self.slow(raw))
        return events

    def _are_good_fields(self, known: set[str], fields: dict[str, Any]) -> bool:
        if not known.issuperset(fields):
            return False
        for value in fields.values():
            kind = type(value)
            if kind is float:
                if value - value != 0.0:  # NaN and infinity only
                    return False
            elif kind is str:
                if len(value) > self._string_max or "\0" in value:
                    return False
            elif kind is int:
                if not INT_MIN <= value <= INT_MAX:
                    return False
            elif kind is not bool and value is not None:
                return False
        return True

    def slow(self, raw: tuple[Any, ...]) -> tuple[Any, ...]:
        """Mend or reject; every value of what is returned has an exact, encodable type."""
        if len(raw) > _RAW_LENGTH:
            return raw  # rejected already, and clean since then
        measurement, when, tags, fields, trace_id = raw
        name, trace, labels = INVALID_MEASUREMENT, None, {}
        time_ns = when if type(when) is int and INT_MIN <= when <= INT_MAX else 0
        try:
            name = self._measurement(measurement)
            time_ns = self._time(when)
            trace = self._trace(name, trace_id)
            labels = self._tags(name, tags)
            return name, time_ns, labels, self._fields(name, fields), trace
        except Rejection as rejection:
            reason = str(rejection)
        except Exception as error:  # noqa: BLE001 - a lazy string, or a subclass with ideas
            reason = self._clean(name, f"reading it raised {show_error(error)}", 2000)
        return name, time_ns, labels, self._shown(measurement, tags, fields), trace, reason

    def _measurement(self, name: Any) -> str:
        if not _is_a(name, str) or not name:
            raise Rejection(f"the measurement is {show(name)}; it must be a non-empty string")
        if len(name) > MEASUREMENT_MAX_CHARS:
            raise Rejection(
                f"the measurement {show(name)} is longer than {MEASUREMENT_MAX_CHARS} characters"
            )
        clean = self._clean(INVALID_MEASUREMENT, name, MEASUREMENT_MAX_CHARS)
        if clean not in self._schemas:
            if len(self._schemas) >= MEASUREMENTS_MAX:
                raise Rejection(
                    f"more than {MEASUREMENTS_MAX} measurements in one process, {show(name)} "
                    "among them: put what varies into a tag or field"
                )
            self._schemas[clean] = _Schema()
        return clean

    def _time(self, when: Any) -> int:
        if _is_a(when, datetime):
            try:
                return ns_from_datetime(when)
            except ValueError as error:
                raise Rejection(str(error)) from error
        if _is_a(when, int) and not _is_a(when, bool) and INT_MIN <= when <= INT_MAX:
            return int(when)
        raise Rejection(
            f"the time is {show(when)}; pass an aware datetime or integer nanoseconds since 1970"
        )

    def _trace(self, name: str, trace_id: Any) -> str | None:
        trace_id = scalar(trace_id)
        if trace_id is None:
            return None
        if _is_a(trace_id, int) and INT_MIN <= trace_id <= INT_MAX:
            trace_id = str(trace_id)
        if not _is_a(trace_id, str):
            raise Rejection(f"the trace id is {show(trace_id)}; it must be a string")
        return self._clean(name, trace_id, TRACE_ID_MAX_CHARS)

    def _tags(self, name: str, tags: Any) -> dict[str, str]:
        known = self._schemas[name].tags
        labels = {}
        for key, value in self._items("tag", tags):
            if value is None:
                continue
            if _is_a(value, bool):
                value = "true" if value else "false"
            text = self._clean(name, _plain_text(value), self._config.tag_max_chars)
            labels[key] = text
            values = known.get(key)
            if values is None:
                # Names beyond this many are not learned, so they cost time and no memory.
                if len(known) < self._max_names:
                    known[key] = {text}
            elif text not in values and len(values) >= self._config.tag_max_values:
                if key == DEVICE_TAG:
                    continue  # true of a fleet; only slower, as no more of them are learned
                self._warn_overflow(name, key)
                labels[key] = OVERFLOW_TAG
            else:
                values.add(text)
        return labels

    def _fields(self, name: str, fields: Any) -> dict[str, Any]:
        known = self._schemas[name].fields
        good = {}
        for key, value in self._items("field", fields):
            good[key] = self._value(name, key, value)
            if len(known) < self._max_names:
                known.add(key)
        return good

    def _items(self, what: str, mapping: Any) -> list[tuple[str, Any]]:
        if mapping is None:
            return []
        if type(mapping) is Rejection:
            raise mapping
        if not _is_a(mapping, Mapping):
            raise Rejection(f"{what}s are {show(mapping)}; pass a dict")
        max_fields = self._config.max_fields
        items: list[tuple[str, Any]] = []
        for key, value in islice(mapping.items(), max_fields + 1):
            if len(items) == max_fields:
                raise Rejection(f"{len(mapping)} {what}s; TAILRACE['MAX_FIELDS'] is {max_fields}")
            if not _is_a(key, str) or not 0 < len(key) <= KEY_MAX_CHARS:
                raise Rejection(
                    f"the {what} name {show(key)} is not a string of 1 to {KEY_MAX_CHARS} "
                    "characters"
                )
            items.append((self._clean(INVALID_MEASUREMENT, key, KEY_MAX_CHARS), value))
        return items

    def _value(self, name: str, key: str, value: Any) -> Any:
        value = scalar(value)
        if value is None or _is_a(value, bool):
            return value
        if _is_a(value, int):
            if not INT_MIN <= value <= INT_MAX:
                raise Rejection(f"field {key!r} is {show(value)}, beyond 64 bits")
            return int(value)
        if _is_a(value, float):
            if value - value != 0.0:
                raise Rejection(f"field {key!r} is {value}; leave it out where there is no value")
            return float(value)
        if _is_a(value, str):
            return self._clean(name, value, self._string_max)
        raise Rejection(
            f"field {key!r} is a {type(value).__name__}; fields are numbers, booleans or strings"
        )

    def _clean(self, name: str, text: str, max_chars: int) -> str:
        text = str.__str__(text)  # a subclass, such as SafeString, has no encoding
        if len(text) > max_chars:
            self.notes["truncated"][name] += 1
            text = text[: max_chars - 1] + "\N{HORIZONTAL ELLIPSIS}"
        if "\0" in text or not _encodes(text):
            self.notes["replaced"][name] += 1
            text = text.replace("\0", _REPLACEMENT)
            # Surrogates have no UTF-8; UTF-16 pairs them up again where they belong together.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def _warn_overflow(self, name: str, key: str) -> None:
        notes = self.notes["tag_overflow"]
        if not notes[name]:
            logger.warning(
                "tag %r of measurement %r has more than %d values; further ones are stored as %r. "
                "Make it a field, or raise TAILRACE['TAG_MAX_VALUES'].",
                key,
                name,
                self._config.tag_max_values,
                OVERFLOW_TAG,
            )
        notes[name] += 1

    def _shown(self, measurement: Any, tags: Any, fields: Any) -> dict[str, Any]:
        """Return what of a rejected event a person may want to see, bounded."""
        parts = {"measurement": measurement, "tags": tags, "fields": fields}
        return {
            key: self._clean(INVALID_MEASUREMENT, show(value, 2000), 2000)
            for key, value in parts.items()
        }


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def scalar(value: Any) -> Any:
    """Turn the usual types of a Django project into numbers and strings."""
    if _is_a(value, enum.Enum):
        value = value.value
    kind = type(value)
    if issubclass(kind, Decimal):
        return math.nan if value.is_snan() else float(value)
    if issubclass(kind, timedelta):
        return value.total_seconds()
    if issubclass(kind, datetime | date | time):
        return value.isoformat()
    # The name is that of Django's lazy text, whose module must not be imported here.
    if issubclass(kind, uuid.UUID) or kind.__name__ == "__proxy__":
        return str(value)
    return value


def _is_a(value: Any, kinds: Any) -> bool:
    """Do what ``isinstance`` does, without asking for ``value.__class__``.

    A lazy object, such as ``request.user``, would query the database to answer that, on the
    flusher's thread.
    """
    return issubclass(type(value), kinds)


def _plain_text(value: Any) -> str:
    value = scalar(value)
    if _is_a(value, str):
        return value
    if _is_a(value, float) or (_is_a(value, int) and INT_MIN <= value <= INT_MAX):
        return str(value)
    raise Rejection(f"a tag is {show(value)}; tags are strings")


def rejected(event: tuple[Any, ...], reason: str) -> tuple[Any, ...]:
    """Return an event, as it would go on the wire, as one that becomes a dead letter."""
    measurement, time_ns, tags, fields, trace_id = event[:_RAW_LENGTH]
    shown = {"tags": show(tags, 2000), "fields": show(fields, 2000)}
    return measurement, time_ns, {}, shown, trace_id, reason
