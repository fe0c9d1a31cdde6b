"""Who an imported event is: the same record is the same event, however often it is imported."""

from __future__ import annotations

import hashlib

_VERSION_BYTE, _VARIANT_BYTE = 6, 8


class Identity:
    """Makes ids of what is imported from one source.

    An id follows from the source and the record's place in it, never from how a record is
    interpreted by settings that may change, such as the words to mask.
    """

    def __init__(self, *source: str | bytes) -> None:
        """Say what identifies the source.

        Args:
            *source: Its kind, the digest of its content or its name, and what the importer
                adds to each event.
        """
        self._hash = hashlib.blake2b(digest_size=16, person=b"tailrace.import")
        self._feed(self._hash, source)

    def uid(self, *place: str | bytes | int) -> bytes:
        """Return the id of a record, 16 bytes that read as a UUID of version 8.

        Args:
            *place: Where it is: an offset in bytes, a table and a primary key.
        """
        hasher = self._hash.copy()
        self._feed(hasher, [str(part) if isinstance(part, int) else part for part in place])
        uid = bytearray(hasher.digest())
        uid[_VERSION_BYTE] = uid[_VERSION_BYTE] & 0x0F | 0x80
        uid[_VARIANT_BYTE] = uid[_VARIANT_BYTE] & 0x3F | 0x80
        return bytes(uid)

    @staticmethod
    def _feed(hasher: hashlib.blake2b, parts: tuple[str | bytes, ...] | list[str | bytes]) -> None:
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            # With its length before it, no part can look like two others.
            hasher.update(len(data).to_bytes(8, "big"))
            hasher.update(data)
