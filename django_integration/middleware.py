"""The middleware: gives each request a trace, and records it when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Token
from time import perf_counter_ns, time_ns
from typing import Any, TypeAlias

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from tailrace.pipeline.context import (
    SUPPRESSED,
    current_trace,
    enter_trace,
    leave_trace,
    new_trace_id,
    parse_traceparent,
)

from .guard import shield
from .recorders import requests

STATUS_CLIENT_CLOSED_REQUEST = 499
"""What proxies log when the client went away before there was an answer."""
STATUS_SERVER_ERROR = 500

_shield = shield(requests.MEASUREMENT)

Answer: TypeAlias = HttpResponseBase | Awaitable[HttpResponseBase]


class _Observation:
    """A request that is being answered."""

    __slots__ = ("_parent_span_id", "_started_ns", "_time_ns", "_token", "trace_id")

    def __init__(self, trace_id: str, parent_span_id: str | None) -> None:
        self.trace_id = trace_id
        self._parent_span_id = parent_span_id
        self._time_ns = time_ns()
        self._started_ns = perf_counter_ns()
        # Last: a failure above must not leave a trace behind.
        self._token: Token[str | None] = enter_trace(trace_id)

    def end(
        self,
        request: HttpRequest,
        response: HttpResponseBase | None,
        status: int = STATUS_SERVER_ERROR,
    ) -> None:
        """Leave the trace, and record the request; ``status`` counts if there is no response."""
        duration_ns = perf_counter_ns() - self._started_ns
        with _shield:
            leave_trace(self._token)
        with _shield:
            recorder = requests.active
            if recorder is None or self.trace_id is SUPPRESSED:
                return
            started = (self._time_ns, duration_ns, self.trace_id, self._parent_span_id)
            if response is not None:
                status = response.status_code
            recorder.observe(request, response, status, started)


class TelemetryMiddleware:
    """Put it first in ``MIDDLEWARE``: what stands before it is not measured.

    Runs natively under WSGI and ASGI. The response passes through untouched.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Wrap the rest of the stack, sync or async as it is."""
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer the request; return a coroutine in an asynchronous stack."""
        if self._is_async:
            return self._answer_async(request)
        observation = _begin(request)
        if observation is None:
            return self.get_response(request)
        try:
            response = self.get_response(request)
        except BaseException as error:
            observation.end(request, None, _status_of(error))
            raise
        observation.end(request, response)
        return response

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        observation = _begin(request)
        if observation is None:
            return await self.get_response(request)
        try:
            response = await self.get_response(request)
        except BaseException as error:
            observation.end(request, None, _status_of(error))
            raise
        observation.end(request, response)
        return response


def _begin(request: HttpRequest) -> _Observation | None:
    """Start to observe; ``None`` where nothing is recorded, or we failed."""
    with _shield:
        if current_trace() is SUPPRESSED:
            return None
        is_ignored = requests.is_ignored_path
        if is_ignored is not None and is_ignored(request.path):
            # Nothing in the request is recorded, as if it ran in suppress_recording().
            return _Observation(SUPPRESSED, None)
        parent = parse_traceparent(request.META.get("HTTP_TRACEPARENT"))
        if parent is None:
            return _Observation(new_trace_id(), None)
        return _Observation(*parent)
    return None


def _status_of(error: BaseException) -> int:
    is_cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return STATUS_CLIENT_CLOSED_REQUEST if is_cancelled else STATUS_SERVER_ERROR
