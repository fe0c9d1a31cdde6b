"""URLs of Redis in messages: never with their passwords."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def safe_url(url: str) -> str:
    """Return a URL without its password, also where that was not percent-encoded."""
    scheme, mark, rest = url.rpartition("://") if url.count("://") == 1 else ("", "", url)
    place = re.split("[?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(place) :]:
        return f"{scheme}{mark}***"  # nobody can say where the password ends
    user, at, host = place.rpartition("@")
    leading = "//" if not mark and user.startswith("//") else ""
    return f"{scheme}{mark}{leading}***@{host}" if at else f"{scheme}{mark}{place}"


def is_legible(url: str) -> bool:
    """Say whether what a parser takes for host and port is not half of a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return "@" not in parts.path + parts.fragment
