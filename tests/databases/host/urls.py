"""Health endpoints, the admin page, and a page that fails."""

from __future__ import annotations

from django.contrib import admin
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from tailrace.django_integration.databases.admin_view import database_admin_urls


def fail(request: HttpRequest) -> HttpResponse:
    """Raise with a password in sight, as code that handles connections can."""
    settings_in_sight = dict(connection.settings_dict)
    password = settings_in_sight["PASSWORD"]
    raise RuntimeError(f"could not connect with {password}")


urlpatterns = [
    path("", include("tailrace.django_integration.databases.urls")),
    path("admin/", include(database_admin_urls(admin.site))),
    path("admin/", admin.site.urls),
    path("fail/", fail),
]
