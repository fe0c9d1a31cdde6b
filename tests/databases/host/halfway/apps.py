"""An app whose migrations can be made to hang in the middle."""

from __future__ import annotations

from django.apps import AppConfig


class Config(AppConfig):
    """Names the app."""

    name = "databases.host.halfway"
    label = "halfway"
    default_auto_field = "django.db.models.BigAutoField"
