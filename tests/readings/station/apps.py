"""A host's app with models of readings."""

from __future__ import annotations

from django.apps import AppConfig


class Config(AppConfig):
    """Names the app."""

    name = "readings.station"
    label = "station"
    default_auto_field = "django.db.models.BigAutoField"
