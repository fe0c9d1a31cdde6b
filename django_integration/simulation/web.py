"""Simulated visitors: GET requests to a running server, or to this project in this process."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

REPLY_TIMEOUT_SECONDS = 30.0
FAILED = "failed"
_LEFT_OUT = ("admin", "logout", "delete")
"""In a route's name or path: pages that ask who you are, or do something."""

Get = Callable[[str], str]
"""Requests a path, and returns the status, or :data:`FAILED`."""
Visitor = Callable[[], AbstractContextManager[Get]]
"""Comes, and goes at the end of the block."""


def discovered_paths() -> list[str]:
    """Return the paths of the project that need no arguments and seem safe to visit."""
    return sorted({f"/{path}" for path in _walk(get_resolver().url_patterns, "")})


def _walk(patterns: Iterable[Any], before: str) -> Iterable[str]:
    for pattern in patterns:
        text = str(pattern.pattern).lstrip("^")
        if isinstance(pattern, URLPattern):
            text = text.removesuffix("$").removesuffix(r"\Z")
        names = f"{text} {getattr(pattern, 'name', '')} {getattr(pattern, 'app_name', '')}"
        if any(word in names.lower() for word in _LEFT_OUT) or set(text) & set("<>()[]?*+\\"):
            continue
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, before + text)
        else:
            yield before + text


def http_getter(url: str) -> Visitor:
    """Return what makes a visitor of a running server.

    Args:
        url: Such as ``http://127.0.0.1:8000``.

    Raises:
        ValueError: it is no URL of a server.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--url is {url!r}; write http://127.0.0.1:8000")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    host, port = parts.hostname, parts.port

    @contextmanager
    def visitor() -> Iterator[Get]:
        connection = kind(host, port, timeout=REPLY_TIMEOUT_SECONDS)

        def get(path: str) -> str:
            try:
                connection.request("GET", path, headers={"User-Agent": "tailrace_simulate"})
                reply = connection.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):
                connection.close()  # opens again with the next request
                return FAILED
            return str(reply.status)

        try:
            yield get
        finally:
            connection.close()

    return visitor


def in_process_getter() -> Visitor:
    """Return what makes a visitor of this project, through its own handler and middleware."""
    # It is what tests use, and brings their machinery along; a running server needs none of it.
    from django.test import Client

    allowed = [host.lstrip(".") for host in settings.ALLOWED_HOSTS if "*" not in host]
    host = "localhost" if settings.DEBUG or not allowed else allowed[0]

    @contextmanager
    def visitor() -> Iterator[Get]:
        client = Client(raise_request_exception=False, SERVER_NAME=host)
        yield lambda path: str(client.get(path, HTTP_USER_AGENT="tailrace_simulate").status_code)

    return visitor


class Tally:
    """How often each status came; for many threads."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.statuses: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, status: str) -> None:
        """Count one answer."""
        with self._lock:
            self.statuses[status] += 1
