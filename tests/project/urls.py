"""Routes of the project."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path

from tailrace.django_integration.databases.admin_view import database_admin_urls

urlpatterns = [
    path("", include("tailrace.django_integration.databases.urls")),
    path("admin/", include(database_admin_urls(admin.site))),
    path("admin/", admin.site.urls),
    # The demo has no web server in front of it, and the admin needs its style sheets.
    path("static/<path:path>", serve, {"insecure": True}),
    path("", include("project.shop.urls")),
]
