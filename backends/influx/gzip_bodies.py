"""gzip for what is sent: by ISA-L where it is installed, or else by zlib.

ISA-L takes a fifth of zlib's time for bodies of lines, at about the same size
(docs/decisions/0004). The extra ``influxdb`` brings it.
"""

from __future__ import annotations

import zlib
from typing import Any

_WINDOW_BITS = 16 + zlib.MAX_WBITS  # a gzip header, not zlib's
_ISAL_LEVEL_MAX = 3

_isal: Any
try:
    from isal import isal_zlib as _isal
except ImportError:  # there is no wheel for this platform
    _isal = None


def gzipped(body: bytes, level: int) -> bytes:
    """Return a body packed by gzip.

    Args:
        body: What is to be sent.
        level: 1, the fastest, to 9; ISA-L knows no higher one than 3.
    """
    if _isal is None:
        packer = zlib.compressobj(level, zlib.DEFLATED, _WINDOW_BITS)
        return packer.compress(body) + packer.flush()
    packer = _isal.compressobj(min(level, _ISAL_LEVEL_MAX), _isal.DEFLATED, _WINDOW_BITS)
    packed: bytes = packer.compress(body) + packer.flush()
    return packed
