"""The app ``blog`` of the host project."""

from __future__ import annotations

from django.apps import AppConfig


class Config(AppConfig):
    """Names the app."""

    name = "databases.host.blog"
    label = "blog"
    default_auto_field = "django.db.models.BigAutoField"
