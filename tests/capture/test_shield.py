"""What fails in a hook of ours never changes what the host does."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import pytest
from capture.conftest import MIDDLEWARE
from capture.test_requests import ask, get
from django.db import connections
from django.test import Client, override_settings

from tailrace.django_integration import guard, middleware, recorders
from tailrace.django_integration.recorders import exceptions, queries, requests, tracebacks
from tailrace.pipeline.context import current_trace

PATHS = [
    "/", "/hello/7/", "/reset/MQ/tok/", "/no/such/", "/queries/", "/fail/", "/fail_in_chain/",
    "/fail_unprintable/", "/stream/", "/with_user/",
]  # fmt: skip
ASYNC_PATHS = ["/", "/queries_async/", "/fail_async/", "/stream_async/", "/no/such/"]

# Everything that a hook calls on the host's thread.
HOOKS = [
    (middleware, "parse_traceparent"),
    (middleware, "new_trace_id"),
    (middleware, "enter_trace"),
    (middleware, "leave_trace"),
    (middleware, "time_ns"),
    (requests.RequestRecorder, "observe"),
    (requests.RequestRecorder, "_headers"),
    (requests.RequestRecorder, "_secrets_in_path"),
    (requests, "_known_user_key"),
    (requests, "_known_size"),
    (requests, "emit"),
    (requests, "is_ignored_path"),
    (queries, "emit"),
    (queries, "plain_params"),
    (queries.QueryRecorder, "_wrap"),
    (exceptions, "emit"),
    (exceptions, "route_of"),
    (exceptions, "current_trace"),
    (exceptions.ExceptionRecorder, "observe"),
    (tracebacks, "freeze"),
    (tracebacks, "_frames"),
    (tracebacks, "_message"),
    (tracebacks, "qualified_name"),
]


class Broken(Exception):
    """What we inject."""


def broken(*args: Any, **kwargs: Any) -> Any:
    raise Broken


def read(response: Any) -> tuple[int, bytes, bytes]:
    """Return all of a response, byte for byte."""
    if response.streaming and response.is_async:

        async def parts() -> bytes:
            return b"".join([part async for part in response.streaming_content])

        content = asyncio.run(parts())
    else:
        content = response.getvalue() if response.streaming else response.content
    return response.status_code, response.serialize_headers(), content


def answers() -> list[tuple[int, bytes, bytes]]:
    shown = [read(get(path)) for path in PATHS]
    for path in ASYNC_PATHS:
        shown.append(read(asyncio.run(ask(path))))
        connections.close_all()
    return shown


@pytest.fixture
def without_us(databases: Any, emitted: Any) -> list[tuple[int, bytes, bytes]]:
    recorders.uninstall_recorders()
    with override_settings(MIDDLEWARE=[]):
        return [read(Client(raise_request_exception=False).get(path)) for path in PATHS]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("django.request"), "disabled", True)


def test_responses_are_the_same_with_and_without_us(install: Any, without_us: Any) -> None:
    install()
    assert answers()[: len(PATHS)] == without_us


@pytest.mark.parametrize(
    ("owner", "name"), HOOKS, ids=[f"{owner.__name__}.{name}" for owner, name in HOOKS]
)
def test_an_exception_in_a_hook_changes_no_byte(
    install: Any, without_us: Any, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    install(RECORDERS={"queries": {"PARAMS": True}})
    connections.close_all()
    good = answers()
    connections.close_all()
    monkeypatch.setattr(guard, "is_shielded", True)
    counted: list[str] = []
    monkeypatch.setattr(guard, "count_recorder_error", counted.append)
    calls: list[int] = []

    def fail(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        raise Broken

    # Undone at once: the fixture's end sets some of these anew.
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        bad = contextvars.copy_context().run(answers)  # leave_trace() may fail
    assert bad == good
    assert bad[: len(PATHS)] == without_us
    assert calls, f"{name} is not called by these requests: the test shows nothing"
    assert len(counted) >= len(calls)
    assert current_trace() is None


def test_failures_are_logged_once_a_minute_and_counted(
    install: Any, emitted: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install()
    counted: list[str] = []
    monkeypatch.setattr(guard, "is_shielded", True)
    monkeypatch.setattr(guard, "count_recorder_error", counted.append)
    monkeypatch.setattr(middleware, "_shield", guard.Shield("request"))
    monkeypatch.setattr(requests.RequestRecorder, "_headers", broken)
    with caplog.at_level(logging.ERROR, "tailrace"):
        for _ in range(5):
            get("/")
        assert len(caplog.records) == 1
        middleware._shield._logged_at -= guard.LOG_INTERVAL_SECONDS
        get("/")
    assert counted == ["request"] * 6
    first, second = (record.getMessage() for record in caplog.records)
    assert "failed to record 1 event(s) of 'request': Broken" in first
    assert "turn the recorder off" in first
    assert "failed to record 5 event(s)" in second
    assert caplog.records[0].exc_info


def test_a_log_handler_that_fails_does_no_harm(
    install: Any, emitted: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install()
    monkeypatch.setattr(guard, "is_shielded", True)
    monkeypatch.setattr(guard.logger, "error", broken)
    shield = guard.Shield("request")
    with shield:
        raise ValueError
    assert (
        "Tailrace failed (ValueError), and so did logging it: Broken()" in capsys.readouterr().err
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_process_or_task_passes(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "is_shielded", True)
    with pytest.raises(error), guard.shield("request"):
        raise error


def test_the_tests_run_without_the_shield() -> None:
    assert not guard.is_shielded
    with pytest.raises(Broken), guard.shield("request"):
        raise Broken


def test_a_middleware_in_the_stack_is_ours() -> None:
    assert MIDDLEWARE.endswith(middleware.TelemetryMiddleware.__name__)
