"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.signals import setting_changed


class TailraceConfig(AppConfig):
    """``INSTALLED_APPS += ["tailrace.django_integration"]``."""

    name = "tailrace.django_integration"
    label = "tailrace"
    verbose_name = "Tailrace"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tailrace.pipeline import schedule

        from . import checks, wiring

        checks.register()
        wiring.wire()
        schedule.connect()
        setting_changed.connect(wiring.on_setting_changed, dispatch_uid="tailrace.settings")
