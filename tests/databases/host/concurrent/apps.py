"""An app whose indexes are built concurrently, on PostgreSQL only."""

from __future__ import annotations

from django.apps import AppConfig


class Config(AppConfig):
    """Names the app."""

    name = "databases.host.concurrent"
    label = "concurrent"
    default_auto_field = "django.db.models.BigAutoField"
