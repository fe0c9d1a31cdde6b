"""The app ``shop`` of the host project."""

from __future__ import annotations

from django.apps import AppConfig


class Config(AppConfig):
    """Names the app."""

    name = "databases.host.shop"
    label = "shop"
    default_auto_field = "django.db.models.BigAutoField"
