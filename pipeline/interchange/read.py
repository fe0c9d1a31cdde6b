"""From a slice of a file to events, good and bad."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tailrace.pipeline.event import INVALID_MEASUREMENT, Event
from tailrace.pipeline.masking import Masker

from .drafts import BadRecord, Draft, EventMaker
from .identity import Identity
from .records import RECORD_MAX_BYTES, Format, Record, Slice, read_slice

PIECE_RECORDS = 500
_SHOWN_MAX_CHARS = 500


class Read(NamedTuple):
    """How a file's records become events."""

    format: Format
    maker: EventMaker
    identity: Identity
    masker: Masker
    """For what is shown of a bad record, which is always masked."""


class _Found(NamedTuple):
    record: Record
    draft: Draft


def read_events(path: Path, slice_: Slice, how: Read) -> Iterator[list[Event]]:
    """Yield a slice's events in pieces.

    A record that is none, or cannot be stored, is an event with ``rejected`` set to the line's
    number and the reason; it has an id of its own, like the others.

    Args:
        path: The file.
        slice_: Which part of it.
        how: What to make of it.

    Raises:
        BackendError: the file cannot be read, or was changed since it was planned.
    """
    found: list[_Found] = []
    bad: list[Event] = []
    for record in read_slice(path, how.format, slice_):
        for part in _parse(record, how):
            if isinstance(part, Event):
                bad.append(part)
            else:
                found.append(part)
        if len(found) + len(bad) >= PIECE_RECORDS:
            yield _events(found, how) + bad
            found, bad = [], []
    if found or bad:
        yield _events(found, how) + bad


def _parse(record: Record, how: Read) -> Iterator[_Found | Event]:
    if record.data is None:
        yield _bad(record, f"longer than {RECORD_MAX_BYTES} bytes", how)
        return
    try:
        draft = how.format.parse(record.data)
    except BadRecord as error:
        lines = record.data.splitlines(keepends=True) if b"\n" in record.data[:-1] else []
        if len(lines) < 2:
            yield _bad(record, str(error), how)
        else:
            yield from _line_by_line(record, how)
        return
    if draft is not None:
        yield _Found(record, draft)


def _line_by_line(record: Record, how: Read) -> Iterator[_Found | Event]:
    """Read the lines of what is no record: perhaps only the first one is bad."""
    assert record.data is not None, "has lines"
    offset, number = record.offset, record.line
    for line in record.data.split(b"\n"):
        part = Record(offset, number, line)
        if line:
            yield from _parse(part, how)
        offset, number = offset + len(line) + 1, number + 1


def _events(found: list[_Found], how: Read) -> list[Event]:
    events = how.maker.make([item.draft for item in found])
    for event, (record, draft) in zip(events, found, strict=True):
        if event.rejected:
            event.rejected = f"line {record.line}: {event.rejected}"
        if draft.uid is None:
            event.id = how.identity.uid(record.offset, event.measurement, record.data or b"")
    return events


def _bad(record: Record, reason: str, how: Read) -> Event:
    data = (record.data or b"")[: _SHOWN_MAX_CHARS * 4]
    text = data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return Event(
        INVALID_MEASUREMENT,
        0,
        {},
        {"record": how.masker.mask_text(text.strip())[:_SHOWN_MAX_CHARS]},
        None,
        f"line {record.line}: {reason}",
        how.identity.uid(record.offset, "", reason),
    )
