"""From what a record says to an event, by the rules that hold for recorded events.

The rules are those of :mod:`tailrace.pipeline.normalize` (long strings are cut, NUL becomes
U+FFFD, integers beyond 64 bits are refused...), with one exception: what a process may have of
a tag's values is no bound here, since history was not made by one process, and steps that run
on several machines must come to the same events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Event
from tailrace.pipeline.masking import MASK, Masker
from tailrace.pipeline.normalize import Normalizer

_TAG_VALUES_UNBOUNDED = 2**31


class BadRecord(ValueError):
    """A record that no event can be made of; the text is for the person who reads it."""


class Draft(NamedTuple):
    """What a record says, not looked at yet."""

    measurement: Any
    time_ns: int
    tags: Mapping[str, Any]
    fields: Mapping[str, Any]
    trace_id: Any = None
    uid: bytes | None = None
    """The event's id, if the record carries one."""


class EventMaker:
    """Masks and checks drafts. Holds nothing of them; not thread-safe."""

    def __init__(self, config: Config, masker: Masker | None) -> None:
        """Take the rules.

        Args:
            config: Gives the bounds.
            masker: Takes the secrets out; ``None`` for what went through it before.
        """
        self._config = msgspec.structs.replace(config, tag_max_values=_TAG_VALUES_UNBOUNDED)
        self._masker = masker
        self.mended: Counter[str] = Counter()
        """How many values were cut (``truncated``) or had characters replaced (``replaced``)."""

    def make(self, drafts: Sequence[Draft]) -> list[Event]:
        """Return an event of each draft; one that cannot be stored says why in ``rejected``."""
        # A new one each time: it remembers tag values, of which a file may have any number.
        normalizer = Normalizer(self._config, _no_recorder)
        raws = [
            (
                self._text(draft.measurement),
                draft.time_ns,
                self._masked(draft.tags),
                self._masked(draft.fields),
                draft.trace_id,
            )
            for draft in drafts
        ]
        events = [Event(*wire) for wire in normalizer.batch(raws)]
        for event, draft in zip(events, drafts, strict=True):
            event.id = draft.uid or b""
        for kind, counts in normalizer.notes.items():
            self.mended[kind] += sum(counts.values())
        return events

    def _text(self, value: Any) -> Any:
        return self._masker.mask_text(value) if self._masker and type(value) is str else value

    def _masked(self, items: Mapping[str, Any]) -> dict[str, Any]:
        masker = self._masker
        if masker is None:
            return dict(items)
        masked: dict[str, Any] = {}
        for key, value in items.items():
            if masker.mask_name(key) and value is not None:
                masked[key] = MASK
            elif type(value) is str:
                # As text even where it is JSON, which keeps how it was written.
                masked[masker.mask_text(key)] = masker.mask_text(value)
            else:
                masked[masker.mask_text(key)] = value if _is_plain(value) else _of(masker, value)
        return masked


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (bool, float)


def _of(masker: Masker, value: Any) -> Any:
    masked = masker.mask_value(value)
    return masked if type(value) is int else str(masked)


def _no_recorder(measurement: str, error: BaseException) -> None:
    raise AssertionError(f"{measurement} has no recorder that could fail") from error
