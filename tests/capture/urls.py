"""Views that do what requests do: query, stream, fail."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

from capture.models import Item
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path, re_path

from tailrace.pipeline import record

ALIAS = "capture_one"
seen_requests: list[weakref.ref[HttpRequest]] = []


class Unprintable(Exception):
    """Its ``str()`` fails."""

    def __str__(self) -> str:
        raise ValueError("no text")


def hello(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    seen_requests.append(weakref.ref(request))
    record("custom")
    return HttpResponse(b"hello", headers={"X-Kept": "1"})


def queries(request: HttpRequest) -> HttpResponse:
    seen_requests.append(weakref.ref(request))
    names = []
    for number in range(5):
        names += [item.name for item in Item.objects.using(ALIAS).filter(id__gt=number)]
    return HttpResponse(",".join(names))


async def queries_async(request: HttpRequest) -> HttpResponse:
    names = [item.name async for item in Item.objects.using(ALIAS).filter(id__gt=0)]
    count = await Item.objects.using(ALIAS).acount()
    return HttpResponse(f"{names} {count}")


def fail(request: HttpRequest) -> HttpResponse:
    seen_requests.append(weakref.ref(request))
    password = "hunter2-local"  # a local: it must not be recorded
    raise ValueError(f"no such thing, token={'abc' + '123'} {len(password)}")


def fail_in_chain(request: HttpRequest) -> HttpResponse:
    try:
        {}["missing"]
    except KeyError as error:
        raise RuntimeError("outer") from error
    return HttpResponse()


def fail_unprintable(request: HttpRequest) -> HttpResponse:
    raise Unprintable


async def fail_async(request: HttpRequest) -> HttpResponse:
    raise ValueError("async")


async def slow(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(30)
    return HttpResponse()


def leave(request: HttpRequest) -> HttpResponse:
    raise SystemExit(3)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"one,"
        yield b"two"

    return StreamingHttpResponse(parts())


async def stream_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one,"
        yield b"two"

    return StreamingHttpResponse(parts())


def with_user(request: HttpRequest) -> HttpResponse:
    request.user = AnonymousUser()
    request.user.pk = 42  # type: ignore[assignment]
    return HttpResponse()


class LoadedObject:
    """What a URL converter may make of a slug."""

    regex = "[a-z0-9]+"

    def to_python(self, value: str) -> Any:
        return Item(name=value)

    def to_url(self, value: Any) -> str:
        return value.name


urlpatterns = [
    path("", hello),
    path("hello/<int:number>/", hello),
    path("reset/<str:uidb64>/<str:token>/", hello),
    re_path(r"^old/(?P<api_key>[^/]+)/(?P<page>\d+)/$", hello),
    path("queries/", queries),
    path("queries_async/", queries_async),
    path("fail/", fail),
    path("fail_in_chain/", fail_in_chain),
    path("fail_unprintable/", fail_unprintable),
    path("fail_async/", fail_async),
    path("slow/", slow),
    path("leave/", leave),
    path("stream/", stream),
    path("stream_async/", stream_async),
    path("with_user/", with_user),
]
