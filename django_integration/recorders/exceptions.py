"""Exceptions: one event for each that a view did not handle."""

from __future__ import annotations

import sys
from time import time_ns
from typing import Any, ClassVar

from django.core.signals import got_request_exception
from django.http import HttpRequest

from tailrace.django_integration.guard import shield
from tailrace.pipeline.context import SUPPRESSED, current_trace, new_trace_id
from tailrace.pipeline.event import Value
from tailrace.pipeline.recording import emit

from . import tracebacks
from .base import Recorder
from .requests import route_of

MEASUREMENT = "exception"

MESSAGE_MAX_CHARS = 2_048
TRACEBACK_MAX_CHARS = 16_000

# Marks an exception as recorded. In __dict__, since exceptions of built-in classes allow no weak
# reference, and a frozen dataclass no assignment.
_MARK = "__tailrace_recorded__"
# On a request: what its exceptions are recorded once for. The trace alone would not do: Django
# may signal an exception again when it has left our middleware.
_OCCASION = "__tailrace_occasion__"

_RELATIONS = {
    "cause": "The above exception was the direct cause of the following exception:",
    "context": "During handling of the above exception, another exception occurred:",
}

_shield = shield(MEASUREMENT)

active: ExceptionRecorder | None = None
"""The installed recorder."""


def record_exception(
    error: BaseException, *, route: str = "", is_handled: bool = False, occasion: str | None = None
) -> None:
    """Record an exception; for other recorders, such as that of jobs.

    An exception is recorded once for each occasion, however many hooks see it. Never raises.

    Args:
        error: The exception.
        route: The URL template, task name or the like, where it happened.
        is_handled: Whether somebody caught it and went on.
        occasion: What it is recorded once for; by default the current trace.
    """
    with _shield:
        if active is not None:
            active.observe(error, route, is_handled, occasion)


class ExceptionRecorder(Recorder):
    """Makes an event ``exception`` of what ``got_request_exception`` tells."""

    name: ClassVar[str] = "exceptions"

    def install(self) -> None:
        """Listen to the signal."""
        global active
        got_request_exception.connect(self._on_exception, dispatch_uid="tailrace.exceptions")
        active = self

    def uninstall(self) -> None:
        """Stop listening."""
        global active
        if active is self:
            active = None
            got_request_exception.disconnect(dispatch_uid="tailrace.exceptions")

    def observe(
        self, error: BaseException, route: str, is_handled: bool, occasion: str | None
    ) -> None:
        """Record ``error`` unless it was already, or recording is off here."""
        trace_id = current_trace()
        if trace_id is SUPPRESSED:
            return
        occasion = occasion or trace_id or "none"
        if error.__dict__.get(_MARK) == occasion:
            return
        error.__dict__[_MARK] = occasion
        raw = (route, is_handled, tracebacks.freeze(error))
        emit(MEASUREMENT, time_ns(), self.finish, raw, trace_id)

    def finish(self, raw: tuple[Any, ...]) -> tuple[dict[str, str], dict[str, Value]]:
        """Make tags and fields; runs on the flusher's thread."""
        route, is_handled, chain = raw
        error = chain[0]
        tags = {"type": error.type, "route": route, "handled": "yes" if is_handled else "no"}
        fields: dict[str, Value] = {
            "message": self._masked_message(error),
            "fingerprint": tracebacks.fingerprint(error),
            "location": tracebacks.location(error),
            "traceback": self._traceback(chain),
        }
        if len(chain) > 1:
            fields["causes"] = " < ".join(cause.type for cause in chain[1:])
        return tags, fields

    def _on_exception(self, sender: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
        with _shield:
            error = sys.exc_info()[1]
            if error is not None:
                self.observe(error, route_of(request), False, _occasion_of(request))

    def _masked_message(self, error: tracebacks.Frozen) -> str:
        return self.masker.mask_text(error.message)[:MESSAGE_MAX_CHARS]

    def _traceback(self, chain: tuple[tracebacks.Frozen, ...]) -> str:
        lines: list[str] = []
        # Python prints the cause first, and says how each came from the one above.
        for position in range(len(chain) - 1, -1, -1):
            error = chain[position]
            lines.append("Traceback (most recent call last):")
            lines += [self.masker.mask_source(line) for line in tracebacks.format_frames(error)]
            lines.append(f"{error.type}: {self._masked_message(error)}")
            if error.relation:
                lines += ["", _RELATIONS[error.relation], ""]
        text = "\n".join(lines)
        # The end tells most.
        return text if len(text) <= TRACEBACK_MAX_CHARS else "…" + text[1 - TRACEBACK_MAX_CHARS :]


def _occasion_of(request: HttpRequest | None) -> str | None:
    if request is None:
        return None
    return request.__dict__.setdefault(_OCCASION, current_trace() or new_trace_id())
