"""A Django with the app ``weather`` on one database, for :mod:`benchmarks.bench_timescale`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def weather_site(url: str) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Set Django up and migrate.

    Yields:
        A connection, the model of readings, a backend that knows nothing of continuous
        aggregates, and one that does.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    import django
    from django.apps import apps
    from django.conf import settings

    app = "timescale.weather"
    if apps.ready:
        if not apps.is_installed(app):
            apps.set_installed_apps([*settings.INSTALLED_APPS, app])
    else:
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, app]
        django.setup()
    from django.core.management import call_command
    from django.db import connections, router
    from postgres_alias import postgres_alias

    from tailrace.backends.postgres import PostgresBackend
    from tailrace.backends.timescale import TimescaleDBBackend
    from tailrace.pipeline.recording import configure

    configure(None)
    with postgres_alias(url) as alias:
        router.routers = [
            type("Here", (), {"db_for_read": _to(alias), "db_for_write": _to(alias)})()
        ]
        call_command("migrate", "weather", database=alias, verbosity=0)
        backends = [
            kind("default", {"ALIAS": alias}) for kind in (PostgresBackend, TimescaleDBBackend)
        ]
        yield (connections[alias], apps.get_model("weather", "WeatherReading"), *backends)


def _to(alias: str) -> Any:
    def db_for_read(self: Any, model: Any, **hints: Any) -> str | None:
        return alias if model._meta.app_label == "weather" else None

    return db_for_read
