"""Frames: how a batch of events looks on the wire.

A frame is::

    magic "TR" | version u8 | compression u8 | header length u32 | payload length u32 | crc32 u32
    header     msgpack of a FrameHeader
    payload    msgpack of an array of events, zstd-compressed

The header can be read without the payload: that tells how many events of which measurement a
frame holds even when its payload is broken, and counts what is in flight cheaply. The header
also carries its producer's running totals, which turn a gap in the sequence into a number.

Decoding accepts only the types declared here, has a bound on every size, and can run no code:
what does not fit raises :class:`~tailrace.pipeline.errors.FrameError`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import zstandard

from .errors import FrameError
from .event import Event, Integer, Measurement

VERSION = 1
FRAME_MAX_BYTES = 16 * 2**20
"""Nothing larger is decoded, compressed or not; the flusher stays far below."""

PRODUCER_BYTES = 10
"""A producer id: process (8 bytes, random) and shard (2 bytes)."""

_PREAMBLE = struct.Struct(">2sBBIII")
_MAGIC = b"TR"
_COMPRESSION_ZSTD = 1
# Level 1: 5x smaller for 0.1 us an event; level 3 was 4 % smaller for twice the time.
_ZSTD_LEVEL = 1
_NUMBER_BYTES = 6

Counts = dict[Measurement, Integer]


class FrameHeader(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Who sent a frame, and what its producer has counted so far."""

    producer: bytes
    """10 bytes: one shard's lane of one process."""
    sequence: int
    """1 for the producer's first frame, then one more each."""
    created_ns: int
    """When the frame was made; the ledger books it in this minute."""
    started_ns: int
    """When the producer started."""
    events: Counts
    """Events in this frame, by measurement."""
    sent: Counts
    """Events in all frames of this producer up to and including this one."""
    unsent: dict[str, Counts] = {}
    """Running totals of what was captured and is in no frame, or in none that was sent, by
    outcome (see :mod:`tailrace.pipeline.ledger`) and measurement."""
    tags: dict[str, str] = {}
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
        checksum = zlib.crc32(body, zlib.crc32(head))
        preamble = _PREAMBLE.pack(
            _MAGIC, VERSION, _COMPRESSION_ZSTD, len(head), len(body), checksum
        )
        return b"".join((preamble, head, body))


_header_decoder = msgspec.msgpack.Decoder(FrameHeader)
_events_decoder = msgspec.msgpack.Decoder(list[Event])


def decode_header(frame: bytes) -> FrameHeader:
    """Read a frame's header only.

    Raises:
        FrameError: these bytes are no frame of a version we know.
    """
    head_bytes, _, _ = _preamble(frame)
    try:
        header = _header_decoder.decode(frame[_PREAMBLE.size : _PREAMBLE.size + head_bytes])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(f"unreadable frame header: {error}") from error
    _check_header(header)
    return header


def decode_events(frame: bytes, header: FrameHeader) -> list[Event]:
    """Read a frame's events.

    Args:
        frame: The whole frame.
        header: What :func:`decode_header` gave for it.

    Raises:
        FrameError: the payload is cut short, corrupt, too large, or not events.
    """
    head_bytes, body_bytes, checksum = _preamble(frame)
    body_start = _PREAMBLE.size + head_bytes
    body = frame[body_start:]
    if len(body) != body_bytes:
        raise FrameError(f"frame cut short: {len(body)} of {body_bytes} payload bytes")
    if zlib.crc32(body, zlib.crc32(frame[_PREAMBLE.size : body_start])) != checksum:
        raise FrameError("frame corrupt: its checksum does not match")
    try:
        events = _events_decoder.decode(_decompress(body))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(f"unreadable events: {error}") from error
    if len(events) != header.event_count:
        raise FrameError(f"frame holds {len(events)} events, its header says {header.event_count}")
    _complete(events, header)
    return events


def _preamble(frame: bytes) -> tuple[int, int, int]:
    if len(frame) < _PREAMBLE.size:
        raise FrameError(f"frame cut short: {len(frame)} bytes")
    magic, version, compression, head_bytes, body_bytes, checksum = _PREAMBLE.unpack_from(frame)
    if magic != _MAGIC:
        raise FrameError("not a Tailrace frame")
    if version != VERSION or compression != _COMPRESSION_ZSTD:
        raise FrameError(
            f"frame version {version}, compression {compression}: this worker reads version "
            f"{VERSION}; update django-tailrace on the workers, then replay the dead letter"
        )
    if head_bytes > FRAME_MAX_BYTES or body_bytes > FRAME_MAX_BYTES:
        raise FrameError(f"frame larger than {FRAME_MAX_BYTES} bytes")
    return head_bytes, body_bytes, checksum


def _check_header(header: FrameHeader) -> None:
    numbers = [header.sequence, *header.events.values(), *header.sent.values()]
    numbers += [n for counts in header.unsent.values() for n in counts.values()]
    if len(header.producer) != PRODUCER_BYTES or header.sequence < 1 or min(numbers) < 0:
        raise FrameError("impossible frame header")


def _decompress(body: bytes) -> bytes:
    # The size comes first from the zstd header: it allocates what that claims.
    try:
        size = zstandard.get_frame_parameters(body).content_size
        if size > FRAME_MAX_BYTES:
            raise FrameError(f"frame would unpack to more than {FRAME_MAX_BYTES} bytes")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=FRAME_MAX_BYTES)
    except zstandard.ZstdError as error:
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
