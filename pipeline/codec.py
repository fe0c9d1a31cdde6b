"""Frames: how a batch of events looks on the wire.

A frame is::

    magic "TR" | version u8 | compression u8
    header length u32 | payload length u32 | header crc32 u32 | payload crc32 u32
    header     msgpack of a FrameHeader
    payload    msgpack of an array of events, zstd-compressed

The header can be read without the payload: that tells how many events of which measurement a
frame holds even when its payload is broken, and counts what is in flight cheaply. The header
also carries its producer's running totals, which turn a gap in the sequence into a number. It
has a checksum of its own: with one wrong bit in its sequence, every later frame of its producer
would look like a copy.

Decoding accepts only the types declared here, has a bound on every size, and can run no code:
what does not fit raises :class:`~tailrace.pipeline.errors.FrameError`. Where only some events
of an otherwise sound frame do not fit, those alone come back as rejected.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, NamedTuple

import msgspec
import zstandard

from .errors import FrameError
from .event import INVALID_MEASUREMENT, Event, Integer, Key, Measurement

VERSION = 1
FRAME_MAX_BYTES = 16 * 2**20
"""Nothing larger is decoded, compressed or not; the flusher stays far below."""
FRAME_MAX_EVENTS = 10_000
"""What ``FRAME_MAX_EVENTS`` in the settings may be at most."""
HEADER_MAX_BYTES = 4 * 2**20
"""The counters of 500 measurements with the longest names, several times over."""

PRODUCER_BYTES = 10
"""A producer id: process (8 bytes, random) and shard (2 bytes)."""

_PREAMBLE = struct.Struct(">2sBBIIII")
_MAGIC = b"TR"
_COMPRESSION_ZSTD = 1
# Level 1: 5x smaller for 0.1 us an event; level 3 was 4 % smaller for twice the time.
_ZSTD_LEVEL = 1
_NUMBER_BYTES = 6
_COUNT_MAX = 2 ** (8 * _NUMBER_BYTES) - 1
_SHOWN_MAX_CHARS = 2_000
_SHOWN_MAX_BYTES = 2**16
# RecursionError: the decoder skips what it does not know, however deeply that is nested.
_UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)

Counts = dict[Measurement, Integer]
Outcome = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class FrameHeader(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Who sent a frame, and what its producer has counted so far."""

    producer: bytes
    """10 bytes: one shard's lane of one process."""
    sequence: Integer
    """1 for the producer's first frame, then one more each."""
    created_ns: Integer
    """When the frame was made; the ledger books it in this minute."""
    started_ns: Integer
    """When the producer started."""
    events: Counts
    """Events in this frame, by measurement."""
    sent: Counts
    """Events in all frames of this producer up to and including this one."""
    unsent: dict[Outcome, Counts] = {}
    """Running totals of what was captured and is in no frame, or in none that was sent, by
    outcome (see :mod:`tailrace.pipeline.ledger`) and measurement."""
    tags: dict[Key, str] = {}
    """Tags that all events of the frame share."""
    is_last: bool = False
    """The producer has exited; nothing follows."""

    @property
    def event_count(self) -> int:
        """Number of events in this frame."""
        return sum(self.events.values())


class FrameEncoder:
    """Makes frames. One for each flusher; not thread-safe."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)

    def payload(self, events: Sequence[tuple[Any, ...]]) -> bytes:
        """Encode events, each a tuple in the order of :class:`Event`'s attributes.

        Raises:
            TypeError, UnicodeEncodeError, OverflowError: a value has no encoding; the
                normalizer's slow path finds which.
        """
        return self._encoder.encode(events)

    def frame(self, header: FrameHeader, payload: bytes) -> bytes:
        """Put a header and an encoded payload together."""
        head = self._encoder.encode(header)
        body = self._compressor.compress(payload)
        sizes_and_checksums = len(head), len(body), zlib.crc32(head), zlib.crc32(body)
        preamble = _PREAMBLE.pack(_MAGIC, VERSION, _COMPRESSION_ZSTD, *sizes_and_checksums)
        return b"".join((preamble, head, body))


_header_decoder = msgspec.msgpack.Decoder(FrameHeader)
_events_decoder = msgspec.msgpack.Decoder(list[Event])
_event_decoder = msgspec.msgpack.Decoder(Event)
_raws_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_measurement_of = attrgetter("measurement")


class _Preamble(NamedTuple):
    magic: bytes
    version: int
    compression: int
    head_bytes: int
    body_bytes: int
    head_checksum: int
    body_checksum: int


def decode_header(frame: bytes) -> FrameHeader:
    """Read a frame's header only.

    Raises:
        FrameError: these bytes are no frame of a version we know.
    """
    preamble = _preamble(frame)
    head = frame[_PREAMBLE.size : _PREAMBLE.size + preamble.head_bytes]
    if zlib.crc32(head) != preamble.head_checksum:
        raise FrameError("frame corrupt: its header's checksum does not match")
    try:
        header = _header_decoder.decode(head)
    except _UNREADABLE as error:
        raise FrameError(f"unreadable frame header: {error}") from error
    _check_header(header)
    return header


def decode_events(frame: bytes, header: FrameHeader) -> list[Event]:
    """Read a frame's events.

    Args:
        frame: The whole frame.
        header: What :func:`decode_header` gave for it.

    Returns:
        As many events of each measurement as the header says. One that does not fit the
        declared types (only a faulty producer sends such) has a reason in ``rejected``.

    Raises:
        FrameError: the payload is cut short, corrupt, too large, or not what the header says.
    """
    payload = _payload(frame)
    length = _array_length(payload)
    if length != header.event_count:
        raise FrameError(f"frame holds {length} events, its header says {header.event_count}")
    try:
        events = _events_decoder.decode(payload)
    except _UNREADABLE:
        events = _decode_each(payload, header)
    if Counter(map(_measurement_of, events)) != header.events:
        raise FrameError("the frame's events are not of the measurements that its header counts")
    _complete(events, header)
    return events


def _preamble(frame: bytes) -> _Preamble:
    if len(frame) < _PREAMBLE.size:
        raise FrameError(f"frame cut short: {len(frame)} bytes")
    preamble = _Preamble(*_PREAMBLE.unpack_from(frame))
    if preamble.magic != _MAGIC:
        raise FrameError("not a Tailrace frame")
    if preamble.version != VERSION or preamble.compression != _COMPRESSION_ZSTD:
        raise FrameError(
            f"frame version {preamble.version}, compression {preamble.compression}: this worker "
            f"reads version {VERSION}; update django-tailrace on the workers, then replay the "
            "dead letter"
        )
    if preamble.head_bytes > HEADER_MAX_BYTES or preamble.body_bytes > FRAME_MAX_BYTES:
        raise FrameError(f"frame larger than {FRAME_MAX_BYTES} bytes")
    return preamble


def _check_header(header: FrameHeader) -> None:
    """Refuse numbers and names that would stop a ledger in whose columns they do not fit."""
    unsent = list(chain.from_iterable(counts.values() for counts in header.unsent.values()))
    sent = header.sent
    numbers = [header.sequence - 1, *header.events.values(), *sent.values(), *unsent]
    names = chain(sent, header.events, header.unsent, *header.unsent.values())
    if (
        len(header.producer) != PRODUCER_BYTES
        or min(numbers) < 0
        or max(header.sequence, sum(sent.values()), sum(unsent)) > _COUNT_MAX
        or any(amount > sent.get(name, 0) for name, amount in header.events.items())
        or any("\0" in name for name in names)
    ):
        raise FrameError("impossible frame header")
    if header.event_count > FRAME_MAX_EVENTS:
        raise FrameError(f"frame with more than {FRAME_MAX_EVENTS} events")


def _payload(frame: bytes) -> bytes:
    preamble = _preamble(frame)
    body = frame[_PREAMBLE.size + preamble.head_bytes :]
    if len(body) != preamble.body_bytes:
        raise FrameError(f"frame cut short: {len(body)} of {preamble.body_bytes} payload bytes")
    if zlib.crc32(body) != preamble.body_checksum:
        raise FrameError("frame corrupt: its checksum does not match")
    return _decompress(body)


def _array_length(payload: bytes) -> int:
    """Return how many elements a msgpack array claims, before any of them takes memory."""
    kind = payload[0] if payload else 0
    if kind & 0xF0 == 0x90:
        return kind & 0x0F
    if kind == 0xDC:
        return int.from_bytes(payload[1:3], "big")
    if kind == 0xDD:
        return int.from_bytes(payload[1:5], "big")
    raise FrameError("unreadable events: the payload is no array")


def _decode_each(payload: bytes, header: FrameHeader) -> list[Event]:
    """Read events one by one, so that one that does not fit costs only itself."""
    try:
        raws = _raws_decoder.decode(payload)
    except _UNREADABLE as error:
        raise FrameError(f"unreadable events: {error}") from error
    events: dict[int, Event] = {}
    reasons: dict[int, str] = {}
    for number, raw in enumerate(raws):
        try:
            events[number] = _event_decoder.decode(raw)
        except _UNREADABLE as error:
            reasons[number] = f"it does not fit the wire format: {error}"
    missing = Counter(header.events)
    missing.subtract(map(_measurement_of, events.values()))
    for number, reason in reasons.items():
        events[number] = _rejected_event(bytes(raws[number]), reason, missing, header)
    return [events[number] for number in range(len(raws))]


def _rejected_event(raw: bytes, reason: str, missing: Counter[str], header: FrameHeader) -> Event:
    """Stand in for an event that cannot be read, under a measurement that lacks one."""
    try:
        shown = msgspec.msgpack.decode(raw) if len(raw) <= _SHOWN_MAX_BYTES else raw[:500]
        name = shown[0] if isinstance(shown, list) and shown else None
        text = repr(shown)[:_SHOWN_MAX_CHARS]
    except _UNREADABLE:
        name, text = None, repr(raw[:500])
    if not isinstance(name, str) or missing[name] < 1:
        name = next((name for name, amount in missing.items() if amount > 0), INVALID_MEASUREMENT)
    missing[name] -= 1
    return Event(name, header.created_ns, {}, {"event": text}, None, reason)


def _decompress(body: bytes) -> bytes:
    # The size comes first from the zstd header: it allocates what that claims.
    try:
        size = zstandard.get_frame_parameters(body).content_size
        if size > FRAME_MAX_BYTES:
            raise FrameError(f"frame would unpack to more than {FRAME_MAX_BYTES} bytes")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=FRAME_MAX_BYTES)
    except (zstandard.ZstdError, MemoryError) as error:
        raise FrameError(f"frame does not decompress: {error}") from error


def _complete(events: list[Event], header: FrameHeader) -> None:
    """Give each event its id, and the tags that the frame's events share."""
    number = sum(header.sent.values()) - len(events)
    producer = header.producer
    for event in events:
        event.id = producer + number.to_bytes(_NUMBER_BYTES, "big")
        number += 1
    if header.tags:
        for event in events:
            event.tags = {**header.tags, **event.tags}
