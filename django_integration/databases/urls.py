"""``path("", include("tailrace.django_integration.databases.urls"))``."""

from __future__ import annotations

from django.urls import path

from tailrace.django_integration.databases.views import healthz, readyz

urlpatterns = [
    path("healthz", healthz, name="tailrace-healthz"),
    path("readyz", readyz, name="tailrace-readyz"),
]
