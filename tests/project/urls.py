"""Routes of the project."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    # The demo has no web server in front of it, and the admin needs its style sheets.
    path("static/<path:path>", serve, {"insecure": True}),
    path("", include("project.shop.urls")),
]
