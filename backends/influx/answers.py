"""What the answers of an InfluxDB server mean.

================  ===============================================================================
2xx               done
413               too large: halve it (:class:`TooLarge`)
400               at least one line is malformed, nothing is written (:class:`Malformed`)
422               some lines are refused, the others are written (:class:`PartlyRefused`)
401, 403, 404     misconfigured: token, rights, organisation or bucket. The data is kept.
429, 503          come again after ``Retry-After`` (seconds or a date); nothing is asked before
other 5xx         tried again soon, and then later
no answer         the same: it may be written or not, and writing it again changes nothing
================  ===============================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from tailrace.pipeline.errors import (
    BackendError,
    BackendMisconfigured,
    TransientBackendError,
)

_RETRY_AFTER_MAX_SECONDS = 600.0
_SHOWN_MAX_CHARS = 500


class Missing(BackendMisconfigured):
    """404: no such bucket or organisation, or no such part of the API."""


class TooLarge(BackendError):
    """413: the server takes no body of this size."""


class Malformed(BackendError):
    """400: the server cannot read it; nothing of it is written."""


class PartlyRefused(BackendError):
    """422: some of it is refused for good, the rest is written."""


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body read as JSON; an empty object for what is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


def check(answer: Answer, server: str) -> None:
    """Raise what an answer means, unless it is a good one.

    Args:
        answer: The server's.
        server: Its address, for messages.

    Raises:
        TooLarge, Malformed, PartlyRefused, BackendMisconfigured, TransientBackendError: see the
            top.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    said = f"InfluxDB at {server} says {status}: {_shown(answer)}"
    if status == 413:
        raise TooLarge(said)
    if status == 400:
        raise Malformed(said)
    if status == 422:
        raise PartlyRefused(said)
    if status == 404:
        raise Missing(f"{said}. {_ADVICE[status]}")
    if status in (401, 403):
        raise BackendMisconfigured(f"{said}. {_ADVICE[status]}")
    if status in (429, 503):
        raise TransientBackendError(said, retry_after_seconds(answer.headers))
    if status >= 500 or status == 408:
        raise TransientBackendError(said)
    raise BackendMisconfigured(f"{said}. Is that address an InfluxDB?")


_ADVICE = {
    401: "Check OPTIONS['TOKEN']",
    403: "The token of OPTIONS['TOKEN'] may not do that: give it read and write rights to the "
    "bucket",
    404: "Check OPTIONS['ORG'] and OPTIONS['BUCKET']; backend.ensure_bucket() makes the bucket",
}


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float:
    """Return how long a server wants to be left alone.

    Args:
        headers: The answer's.
        now: The present; the clock's without.

    Returns:
        Seconds, at most ten minutes; 0 where it does not say, or says nothing that is sense.
    """
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal() and text.isascii():
        return min(float(text[:9]), _RETRY_AFTER_MAX_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    left = (moment - (now or datetime.now(UTC))).total_seconds()
    return min(max(left, 0.0), _RETRY_AFTER_MAX_SECONDS)


def _shown(answer: Answer) -> str:
    said = answer.json()
    text = said.get("message") or said.get("error") if isinstance(said, dict) else None
    return str(text or answer.body.decode(errors="replace"))[:_SHOWN_MAX_CHARS].strip()
