"""An app whose migrations send SQL and code to one alias by ``hints``."""

from __future__ import annotations

from django.apps import AppConfig


class Config(AppConfig):
    """Names the app."""

    name = "databases.host.targeted"
    label = "targeted"
    default_auto_field = "django.db.models.BigAutoField"
