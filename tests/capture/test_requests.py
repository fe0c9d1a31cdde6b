"""What is recorded of a request, sync and async, whatever becomes of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from typing import Any

import pytest
from capture import urls
from capture.conftest import MIDDLEWARE, handler
from django.contrib.auth.middleware import get_user
from django.core.handlers.base import BaseHandler
from django.http import FileResponse, HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, Client, RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject

from tailrace.django_integration.middleware import TelemetryMiddleware
from tailrace.django_integration.recorders import requests
from tailrace.pipeline import suppress_recording
from tailrace.pipeline.context import SUPPRESSED, current_trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def get(path: str, **options: Any) -> Any:
    return Client(raise_request_exception=False).get(path, **options)


def test_a_request(install: Any, emitted: Any) -> None:
    install()
    before_ns = time.time_ns()
    get("/hello/7/?page=2", headers={"User-Agent": "curl/8", "Referer": "https://x"})
    event = emitted.one("request")
    assert event.tags == {"method": "GET", "route": "hello/<int:number>/", "status": "200"}
    duration_ms = event.fields.pop("duration_ms")
    assert isinstance(duration_ms, float)
    assert 0 < duration_ms < 5_000
    assert event.fields == {
        "path": "/hello/7/",
        "query_string": "page=2",
        "response_bytes": 5,
        "streaming": False,
        "header.user-agent": "curl/8",
    }
    assert before_ns <= event.time_ns <= time.time_ns()
    assert event.trace_id is not None
    assert len(event.trace_id) == 32


def test_the_root_has_a_route(install: Any, emitted: Any) -> None:
    install()
    get("/")
    assert emitted.one("request").tags["route"] == "/"


def test_unknown_paths_and_methods_collapse(install: Any, emitted: Any) -> None:
    install()
    for number in range(20):
        get(f"/no/such/{number}/")
        Client().generic(f"BREW{number}", "/")
    assert {(e.tags["method"], e.tags["route"], e.tags["status"]) for e in emitted.made()} == {
        ("GET", "<unmatched>", "404"),
        ("OTHER", "/", "200"),
    }


def test_traceparent_is_honoured_and_joins_everything(
    install: Any, emitted: Any, databases: Any
) -> None:
    install()
    get("/queries/", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    assert [e.trace_id for e in emitted.made()] == [TRACE] * 6
    assert emitted.one("request").fields["parent_span_id"] == SPAN
    assert current_trace() is None


def test_an_invalid_traceparent_starts_a_new_trace(install: Any, emitted: Any) -> None:
    install()
    get("/", headers={"traceparent": f"00-{'0' * 32}-{SPAN}-01"})
    event = emitted.one("request")
    assert event.trace_id != "0" * 32
    assert "parent_span_id" not in event.fields


def test_custom_events_have_the_trace_even_without_the_recorder(
    install: Any, emitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(RECORDERS={"requests": False})
    traces: list[Any] = []
    monkeypatch.setattr(urls, "record", lambda name: traces.append(current_trace()))
    get("/", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    assert traces == [TRACE]
    assert emitted == []


def test_secrets_in_urls_are_masked(install: Any, emitted: Any) -> None:
    install(MASK=["voucher"])
    for path in (
        "/reset/MQ/s3cr3t-x/?token=s3cr3t&voucher=s3cr3t&page=2",
        "/old/s3cr3t/7/",
        "/no/token/s3cr3t/?next=%2Fx%3Fpassword%3Ds3cr3t",
    ):
        get(path, headers={"User-Agent": "x password=s3cr3t"})
    assert "s3cr3t" not in repr(emitted.made())
    paths = [e.fields["path"] for e in emitted.made()]
    assert paths == ["/reset/***/***/", "/old/***/7/", "/no/token/***/"]
    assert emitted.made()[0].fields["query_string"] == "token=***&voucher=***&page=2"


def test_a_secret_that_a_converter_changed_hides_the_path(install: Any, emitted: Any) -> None:
    install()
    recorder = requests.active
    assert recorder is not None
    request = RequestFactory().get("/reset/MQ/s3cr3t/")
    match = type("Match", (), {"kwargs": {"token": object()}, "route": "reset/<obj:token>/"})()
    request.resolver_match = match
    recorder.observe(request, HttpResponse(), 200, (0, 1, None, None))
    match.kwargs["token"] = "S3CR3T"
    recorder.observe(request, HttpResponse(), 200, (0, 1, None, None))
    assert [e.fields["path"] for e in emitted.made()] == ["/reset/<obj:token>/"] * 2


def test_headers_by_name_and_all(install: Any, emitted: Any) -> None:
    headers = {
        "User-Agent": "x",
        "Authorization": "Custom s3cr3t",
        "Cookie": "a=s3cr3t",
        "X-Api-Key": "s3cr3t",
        "X-Forwarded-For": "203.0.113.9",
        "Accept": "*/*",
    }
    install(RECORDERS={"requests": {"HEADERS": ["accept", "X-Api-Key", "Content-Type"]}})
    get("/", headers=headers)
    shown = {k: v for k, v in emitted.one("request").fields.items() if k.startswith("header.")}
    assert shown == {"header.accept": "*/*", "header.x-api-key": "***"}
    emitted.clear()
    install(RECORDERS={"requests": {"HEADERS": "*"}})
    get("/", headers=headers)
    fields = emitted.one("request").fields
    assert fields["header.authorization"] == fields["header.cookie"] == "***"
    assert "s3cr3t" not in repr(fields)
    assert "203.0.113.9" not in repr(fields)


@pytest.mark.parametrize(
    ("mode", "address", "shown"),
    [
        ("off", "203.0.113.9", None),
        ("truncated", "203.0.113.9", "203.0.113.0"),
        ("full", "203.0.113.9", "203.0.113.9"),
        ("truncated", "2001:db8:1:2::3", "2001:db8:1::"),
        ("full", "unix:", ""),
    ],
)
def test_addresses(install: Any, emitted: Any, mode: str, address: str, shown: str | None) -> None:
    install(RECORDERS={"requests": {"IP": mode}})
    get("/", REMOTE_ADDR=address)
    assert emitted.one("request").fields.get("ip") == shown


def test_only_a_known_user_is_recorded(install: Any, emitted: Any) -> None:
    install()
    get("/with_user/")
    assert emitted.one("request").fields["user_id"] == "42"

    def unresolved(request: HttpRequest) -> HttpResponse:
        request.user = SimpleLazyObject(lambda: get_user(request))  # type: ignore[assignment]
        return HttpResponse()

    emitted.clear()
    # Resolving it would fail: the request has no session.
    TelemetryMiddleware(unresolved)(RequestFactory().get("/"))
    assert "user_id" not in emitted.one("request").fields

    def resolved_by_auser(request: HttpRequest) -> HttpResponse:
        request.user = SimpleLazyObject(lambda: get_user(request))  # type: ignore[assignment]
        request._acached_user = type("User", (), {"pk": 9})()  # type: ignore[attr-defined]
        return HttpResponse()

    emitted.clear()
    TelemetryMiddleware(resolved_by_auser)(RequestFactory().get("/"))
    assert emitted.one("request").fields["user_id"] == "9"

    def resolved(request: HttpRequest) -> HttpResponse:
        request.user = SimpleLazyObject(lambda: type("User", (), {"pk": 7})())  # type: ignore[assignment]
        assert request.user.pk == 7
        return HttpResponse()

    emitted.clear()
    TelemetryMiddleware(resolved)(RequestFactory().get("/"))
    assert emitted.one("request").fields["user_id"] == "7"
    emitted.clear()
    install(RECORDERS={"requests": {"USER_ID": False, "QUERY_STRING": False}})
    get("/with_user/?a=1")
    assert not {"user_id", "query_string"} & emitted.one("request").fields.keys()


def test_streaming_responses(install: Any, emitted: Any, tmp_path: Any) -> None:
    install()
    response = get("/stream/")
    assert emitted.one("request").fields["streaming"] is True
    assert "response_bytes" not in emitted.one("request").fields
    assert response.getvalue() == b"one,two"
    emitted.clear()
    (tmp_path / "file").write_bytes(b"12345")
    file = (tmp_path / "file").open("rb")
    response = TelemetryMiddleware(lambda request: FileResponse(file))(RequestFactory().get("/"))
    assert emitted.one("request").fields["response_bytes"] == 5
    response.close()


def test_ignored_paths_leave_nothing(install: Any, emitted: Any, databases: Any) -> None:
    install(IGNORE_PATHS=["/queries/*", "/health*"])
    assert get("/queries/").content == b"a,b,b"
    assert get("/healthz").status_code == 404
    assert emitted == []
    get("/")
    assert len(emitted) == 1
    assert current_trace() is None


def test_suppressed_code_makes_unrecorded_requests(install: Any, emitted: Any) -> None:
    install()
    with suppress_recording():
        get("/", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
        assert current_trace() is SUPPRESSED
    assert emitted == []


def test_an_exception_that_passes_through(install: Any, emitted: Any) -> None:
    install()
    with pytest.raises(SystemExit):
        get("/leave/")
    assert emitted.one("request").tags["status"] == "500"
    assert emitted.one("request").tags["route"] == "leave/"
    assert current_trace() is None


def test_nothing_is_kept_alive(
    install: Any, emitted: Any, databases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Django logs the request, and pytest keeps what is logged.
    monkeypatch.setattr(logging.getLogger("django.request"), "disabled", True)
    install(RECORDERS={"queries": {"PARAMS": True}, "requests": {"HEADERS": "*"}})
    urls.seen_requests.clear()
    for path in ("/queries/", "/fail/", "/hello/1/"):
        get(path)
    gc.collect()
    assert len(emitted) >= 9
    assert [reference() for reference in urls.seen_requests] == [None] * 3


# --- asynchronous ------------------------------------------------------------------------------


async def ask(path: str, stack: BaseHandler | None = None, **options: Any) -> Any:
    request = AsyncRequestFactory().get(path, **options)
    return await (stack or handler(is_async=True)).get_response_async(request)


def test_an_async_stack_is_not_adapted(
    install: Any, emitted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    install()
    # Django tells of adapting only in DEBUG.
    with caplog.at_level(logging.DEBUG, "django.request"), override_settings(DEBUG=True):
        stack = handler(is_async=True)
        response = asyncio.run(ask("/stream_async/", stack))
    assert response.streaming
    assert [r.getMessage() for r in caplog.records if "adapted" in r.getMessage()] == []
    assert emitted.one("request").fields["streaming"] is True


def test_async_requests_keep_their_traces_apart(install: Any, emitted: Any) -> None:
    install()
    stack = handler(is_async=True)

    async def many() -> None:
        await asyncio.gather(
            *(
                ask(f"/hello/{n}/", stack, headers={"traceparent": f"00-{n:032x}-{SPAN}-01"})
                for n in range(1, 31)
            )
        )
        assert current_trace() is None

    asyncio.run(many())
    found = {e.fields["path"]: e.trace_id for e in emitted.made("request")}
    assert found == {f"/hello/{n}/": f"{n:032x}" for n in range(1, 31)}


def test_a_cancelled_request(install: Any, emitted: Any) -> None:
    install()

    async def main() -> None:
        task = asyncio.create_task(ask("/slow/"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    event = emitted.one("request")
    assert event.tags["status"] == "499"
    assert event.tags["route"] == "slow/"
    assert event.fields["duration_ms"] >= 90


def test_an_async_error(install: Any, emitted: Any, caplog: pytest.LogCaptureFixture) -> None:
    install()
    response = asyncio.run(ask("/fail_async/"))
    assert response.status_code == 500
    request, exception = emitted.one("request"), emitted.one("exception")
    assert request.tags["status"] == "500"
    assert exception.tags == {"type": "ValueError", "route": "fail_async/", "handled": "no"}
    assert exception.trace_id == request.trace_id


def test_mixed_stacks_work(install: Any, emitted: Any) -> None:
    install()
    conditional = "django.middleware.http.ConditionalGetMiddleware"
    stack = handler(is_async=True, middleware=[conditional, MIDDLEWARE, conditional])
    assert asyncio.run(ask("/", stack)).content == b"hello"
    assert emitted.one("request").tags["status"] == "200"
