from __future__ import annotations

from django.apps import AppConfig


class WeatherConfig(AppConfig):
    name = "timescale.weather"
    label = "weather"
    default_auto_field = "django.db.models.BigAutoField"
