"""Requests: one event for each, made by ``TelemetryMiddleware``."""

from __future__ import annotations

import functools
import ipaddress
import uuid
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject, empty

from tailrace.pipeline.event import Value
from tailrace.pipeline.masking import MASK
from tailrace.pipeline.recording import emit

from .base import Recorder, RecorderOptions

MEASUREMENT = "request"

UNMATCHED = "<unmatched>"
"""The route of requests that no URL pattern matches: one value for all, however many paths."""

PATH_MAX_CHARS = 2_048
QUERY_STRING_MAX_CHARS = 4_096
HEADER_MAX_CHARS = 1_024
HEADERS_MAX = 64
# Text is masked before it is cut to the bounds above: half a secret would not be recognised.
_UNMASKED_MAX_CHARS = 16_384

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"}
# In a URL these name what lets somebody in, whatever they mean elsewhere.
_SECRET_IN_URL = {"key", "code", "hash", "uidb64", "uidb36"}
_ADDRESS_HEADERS = ("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_FORWARDED", "HTTP_CLIENT_IP")
_PLAIN_KEYS = (str, int, uuid.UUID)

active: RequestRecorder | None = None
"""The installed recorder; the middleware asks here."""

is_ignored_path: Callable[[str], Any] | None = None
"""Whether ``TAILRACE["IGNORE_PATHS"]`` names a path; ``None`` where the list is empty."""


class Options(RecorderOptions, frozen=True):
    """Options of the recorder ``requests``."""

    headers: tuple[str, ...] | Literal["*"] = ("User-Agent",)
    """Request headers to keep; secret ones are masked."""
    query_string: bool = True
    """Keep the query string, values of secret parameters masked."""
    user_id: bool = True
    """Keep the primary key of the user, if the host asked who it is; never causes a query."""
    ip: Literal["off", "truncated", "full"] = "off"
    """Keep the client's address; truncated: to /24 (IPv4) or /48 (IPv6)."""


class RawRequest(NamedTuple):
    """What the request's thread keeps; strings and numbers only."""

    duration_ns: int
    method: str | None
    route: str
    status: int
    path: str
    secrets: tuple[str, ...] | None
    query: str
    user: Any
    response_bytes: int | None
    is_streaming: bool
    headers: tuple[tuple[str, str], ...]
    address: str | None
    parent_span_id: str | None


class RequestRecorder(Recorder):
    """Makes an event ``request`` of each request that passes ``TelemetryMiddleware``."""

    name: ClassVar[str] = "requests"
    Options: ClassVar[type[RecorderOptions]] = Options

    def install(self) -> None:
        """Let the middleware record."""
        global active
        is_secret = self.masker.mask_name
        self._secret_arguments = functools.lru_cache(maxsize=1024)(
            lambda names: [name for name in names if name in _SECRET_IN_URL or is_secret(name)]
        )
        self._keeps_all_headers = self.options.headers == "*"
        self._header_keys = tuple(
            (f"header.{name.lower()}", _meta_key(name))
            for name in (() if self._keeps_all_headers else self.options.headers)
        )[:HEADERS_MAX]
        active = self

    def uninstall(self) -> None:
        """Stop the middleware from recording."""
        global active
        if active is self:
            active = None

    def observe(
        self,
        request: HttpRequest,
        response: HttpResponseBase | None,
        status: int,
        started: tuple[int, int, str, str | None],
    ) -> None:
        """Record a request that is over; called on its thread.

        Args:
            request: The request.
            response: What it came to; ``None`` if an exception passed through.
            status: The HTTP status.
            started: Start in nanoseconds since 1970, duration in nanoseconds, trace id, and
                the caller's span id.
        """
        time_ns, duration_ns, trace_id, parent_span_id = started
        meta = request.META
        options = self.options
        match = request.resolver_match
        raw = RawRequest(
            duration_ns,
            request.method,
            UNMATCHED if match is None else match.route or "/",
            status,
            request.path[:_UNMASKED_MAX_CHARS],
            self._secrets_in_path(match) if match is not None and match.kwargs else (),
            meta.get("QUERY_STRING", "")[:_UNMASKED_MAX_CHARS] if options.query_string else "",
            _known_user_key(request) if options.user_id else None,
            _known_size(response) if response is not None else None,
            response is not None and response.streaming,
            self._headers(meta),
            meta.get("REMOTE_ADDR") if options.ip != "off" else None,
            parent_span_id,
        )
        emit(MEASUREMENT, time_ns, self.finish, raw, trace_id)

    def finish(self, raw: RawRequest) -> tuple[dict[str, str], dict[str, Value]]:
        """Make tags and fields; runs on the flusher's thread."""
        tags = {
            "method": raw.method if raw.method in _METHODS else "OTHER",
            "route": raw.route,
            "status": str(raw.status),
        }
        fields: dict[str, Value] = {
            "duration_ms": raw.duration_ns / 1e6,
            "path": self._mask_path(raw)[:PATH_MAX_CHARS],
            "streaming": raw.is_streaming,
        }
        if raw.query:
            query = self.masker.mask_query_string(raw.query)
            fields["query_string"] = query[:QUERY_STRING_MAX_CHARS]
        if raw.user is not None:
            fields["user_id"] = str(raw.user)
        if raw.response_bytes is not None:
            fields["response_bytes"] = raw.response_bytes
        if raw.address:
            fields["ip"] = _shown_address(raw.address, self.options.ip == "full")
        if raw.parent_span_id:
            fields["parent_span_id"] = raw.parent_span_id
        for name, value in raw.headers:
            is_secret = self.masker.mask_name(name.removeprefix("header."))
            fields[name] = MASK if is_secret else self.masker.mask_text(value)[:HEADER_MAX_CHARS]
        return tags, fields

    def _secrets_in_path(self, match: Any) -> tuple[str, ...] | None:
        """Return the values of secret URL arguments, ``None`` where one has no plain text."""
        names = self._secret_arguments(tuple(match.kwargs))
        if not names:
            return ()
        values = [match.kwargs[name] for name in names]
        # A converter may have made a model of it: its str() might run a query.
        if all(type(value) in _PLAIN_KEYS or value is None for value in values):
            return tuple(str(value) for value in values if value is not None)
        return None

    def _mask_path(self, raw: RawRequest) -> str:
        if raw.secrets is None:
            return "/" + raw.route
        path = raw.path
        for secret in raw.secrets:
            if not secret:
                continue
            if secret not in path:  # a converter changed it
                return "/" + raw.route
            path = _without_segment(path, secret)
        if raw.route == UNMATCHED:
            path = self._mask_after_secret_segments(path)
        return self.masker.mask_text(path)

    def _mask_after_secret_segments(self, path: str) -> str:
        """Mask ``abc`` in ``/token/abc``: a mistyped URL may hold a good secret."""
        segments = path.split("/")
        for number in range(len(segments) - 1, 0, -1):
            if segments[number] and self.masker.mask_name(segments[number - 1]):
                segments[number] = MASK
        return "/".join(segments)

    def _headers(self, meta: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        if self._keeps_all_headers:
            return self._all_headers(meta)
        return tuple(
            [
                (name, value[:_UNMASKED_MAX_CHARS])
                for name, key in self._header_keys
                if (value := meta.get(key)) is not None
            ]
        )

    def _all_headers(self, meta: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        hidden = () if self.options.ip == "full" else _ADDRESS_HEADERS
        headers = [
            ("header." + key[5:].replace("_", "-").lower(), str(value)[:_UNMASKED_MAX_CHARS])
            for key, value in meta.items()
            if key.startswith("HTTP_") and key not in hidden
        ]
        return tuple(headers[:HEADERS_MAX])


def route_of(request: HttpRequest | None) -> str:
    """Return the template of a request's URL, never the path itself."""
    match = getattr(request, "resolver_match", None)
    return UNMATCHED if match is None else match.route or "/"


def _meta_key(header: str) -> str:
    key = header.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _known_user_key(request: HttpRequest) -> Any:
    """Return the user's primary key if the user is already loaded, without loading anything."""
    known = request.__dict__
    user = known.get("user")
    if isinstance(user, LazyObject):
        user = user.__dict__["_wrapped"]
        if user is empty:
            user = known.get("_cached_user") or known.get("_acached_user")
    key = getattr(user, "pk", None)
    return key if key is None or isinstance(key, _PLAIN_KEYS) else str(key)


def _known_size(response: HttpResponseBase) -> int | None:
    if not response.streaming:
        return len(response.content)
    length = response.headers.get("Content-Length")
    return int(length) if length is not None and length.isdecimal() else None


def _without_segment(path: str, secret: str) -> str:
    segments = path.split("/")
    if secret in segments:
        return "/".join([MASK if segment == secret else segment for segment in segments])
    return path.replace(secret, MASK)


def _shown_address(address: str, is_full: bool) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket's name, or what a proxy made up
        return ""
    if is_full:
        return str(parsed)
    prefix_bits = 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network((parsed, prefix_bits), strict=False).network_address)
