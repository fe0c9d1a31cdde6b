"""A few routes for simulated visitors."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import include, path, re_path


def hello(request: Any, **kwargs: Any) -> HttpResponse:
    return HttpResponse("hello")


def boom(request: Any) -> HttpResponse:
    raise RuntimeError("boom")


urlpatterns = [
    path("", hello, name="home"),
    path("shop/", include([path("list/", hello), path("<int:key>/", hello), path("bad/", boom)])),
    re_path(r"^old/$", hello),
    re_path(r"^archive/(?P<year>\d+)/$", hello),
    path("accounts/logout/", hello, name="logout"),
    path("admin/", include([path("x/", hello)])),
]
