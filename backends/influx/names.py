"""What tags and fields are called in InfluxDB, and how many values a tag may have.

Both must be the same whenever an event is written again, by whatever process. So both are
looked up in the books, and what is new is committed there before it is used.

**Fields** have one type in InfluxDB. The first that a field has gets the field's own name
(``influx/layout.py``).

**Tags.** Each combination of tag values is a series, and series are what InfluxDB's memory goes to.
A tag that has as many values as it may have admits no others: those become ``__overflow__``, so
that the events are counted all the same. A value that was admitted stays so.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Protocol

from tailrace.pipeline.event import DEVICE_TAG, Event
from tailrace.pipeline.normalize import OVERFLOW_TAG

from .layout import encode_name, typed_key
from .line_names import Field

logger = logging.getLogger("tailrace")

Name = tuple[str, str, str, str]
"""Kind (``tag`` or ``field``), measurement, name and value."""


class Register(Protocol):
    """Where names are kept for all processes."""

    def admit(self, names: Collection[Name], limit: int) -> Mapping[Name, str | None]: ...
    def tag_values(self, measurement: str, tag: str) -> Collection[str]: ...


class InfluxNames:
    """Names as the register has them, with a memory. Not thread-safe."""

    def __init__(self, alias: str, values_max: int) -> None:
        """Know nothing yet.

        Args:
            alias: The backend's, for messages.
            values_max: How many values a tag may have; devices are exempt.
        """
        self._alias = alias
        self._values_max = values_max
        self._own_kinds: dict[tuple[str, str], str] = {}
        self._admitted: dict[tuple[str, str], set[str]] = {}
        self._full: set[tuple[str, str]] = set()
        self.register: Register | None = None
        """Set while names may be asked for; it belongs to a transaction."""

    def learn(self, fields: Collection[Field], series: Collection[Event]) -> None:
        """Have the register admit what is new."""
        assert self.register is not None, "names can be learnt within a transaction only"
        wanted: dict[Name, None] = {}
        for measurement, name, kind in fields:
            if kind != "none" and (measurement, name) not in self._own_kinds:
                wanted["field", measurement, name, kind] = None
        for event in series:
            for tag, value in event.tags.items():
                if self._is_new(event.measurement, tag, value):
                    wanted["tag", event.measurement, tag, value] = None
        if wanted:
            for entry, stored in self.register.admit(list(wanted), self._values_max).items():
                self._remember(entry, stored)

    def key(self, field: Field) -> str:
        """Return a field's key: its own name, or one that tells its type."""
        measurement, name, kind = field
        is_own = self._own_kinds.get((measurement, name)) == kind
        return encode_name(name) if is_own else typed_key(name, kind)

    def tags(self, event: Event) -> Mapping[str, str]:
        """Return an event's tags, with ``__overflow__`` for values that are too many."""
        full = [
            tag
            for tag, value in event.tags.items()
            if (event.measurement, tag) in self._full
            and value not in self._admitted[event.measurement, tag]
        ]
        return {**event.tags, **dict.fromkeys(full, OVERFLOW_TAG)} if full else event.tags

    def _is_new(self, measurement: str, tag: str, value: str) -> bool:
        if tag == DEVICE_TAG or value == OVERFLOW_TAG or (measurement, tag) in self._full:
            return False
        return value not in self._admitted.get((measurement, tag), ())

    def _remember(self, name: Name, stored: str | None) -> None:
        kind, measurement, own, value = name
        key = measurement, own
        if kind == "field":
            assert stored is not None, "the register stores a type for every field"
            self._own_kinds[key] = stored
        elif stored is not None:
            self._admitted.setdefault(key, set()).add(value)
        elif key not in self._full:
            self._fill(key)

    def _fill(self, key: tuple[str, str]) -> None:
        """Note that a tag has all the values it may have, and which."""
        assert self.register is not None, "names can be learnt within a transaction only"
        self._admitted.setdefault(key, set()).update(self.register.tag_values(*key))
        self._full.add(key)
        measurement, tag = key
        logger.warning(
            "backend %r: tag %r of %r has more than %d values; further ones are stored as %r. Put "
            "what has many values into a field, or raise OPTIONS['TAG_VALUES_MAX']",
            self._alias,
            tag,
            measurement,
            self._values_max,
            OVERFLOW_TAG,
        )
