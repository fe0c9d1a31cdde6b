"""Tailrace's own tables: on the aliases that its backends use, and nowhere else."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from tailrace.django_integration.routers.base import AliasRouter, effective_alias, require_aliases

APP_LABEL = "tailrace"
#: Backends that keep nothing in a Django database of their own.
BACKENDS_WITHOUT_ALIAS = frozenset(
    {
        "tailrace.backends.influxdb.InfluxDBBackend",
        "tailrace.backends.memory.MemoryBackend",
        "tailrace.backends.null.NullBackend",
    }
)


class TelemetryRouter(AliasRouter):
    """Keeps Tailrace's tables on the aliases of ``TAILRACE["BACKENDS"]``.

    Each backend's alias is ``OPTIONS["ALIAS"]``, or ``default`` where it names none. Rows are read
    and written on the alias of the backend ``default``, unless the instance at hand already lives
    on the alias of another backend. An alias other than ``default`` holds nothing but Tailrace.
    """

    rank = 10

    def claim(self, app_label: str, model_name: str | None) -> str | None:
        """Name the alias of the default backend for every model of Tailrace."""
        return telemetry_aliases()[0] if app_label == APP_LABEL else None

    def holds(self, alias: str, app_label: str, model_name: str | None) -> bool:
        """Any alias that a backend uses."""
        return alias in {effective_alias(known) for known in telemetry_aliases()}

    def is_dedicated(self, alias: str) -> bool:
        """Every telemetry alias except ``default``."""
        homes = {effective_alias(known) for known in telemetry_aliases()}
        return alias in homes - {DEFAULT_DB_ALIAS}

    def alias_for(self, model: type[Model], hints: dict[str, Any]) -> str | None:
        """Stay with the instance where it lives on an alias of another backend."""
        instance = hints.get("instance")
        if instance is not None and instance._meta.app_label == APP_LABEL:
            alias = instance._state.db
            if alias is not None and self.holds(alias, APP_LABEL, None):
                return alias
        return effective_alias(telemetry_aliases()[0])


def telemetry_aliases() -> list[str]:
    """List the database aliases of all configured backends, the default backend's first.

    Raises:
        ImproperlyConfigured: a backend names an alias that ``DATABASES`` does not have.
    """
    backends = (getattr(settings, "TAILRACE", None) or {}).get("BACKENDS") or {}
    ordered = sorted(backends, key=lambda name: name != "default")
    aliases = [alias for name in ordered if (alias := _alias_of(backends[name])) is not None]
    require_aliases(aliases, 'TAILRACE["BACKENDS"][...]["OPTIONS"]["ALIAS"]')
    return list(dict.fromkeys(aliases)) or [DEFAULT_DB_ALIAS]


def _alias_of(backend: dict[str, Any]) -> str | None:
    options = backend.get("OPTIONS") or {}
    if "ALIAS" in options:
        return str(options["ALIAS"])
    return None if backend.get("BACKEND") in BACKENDS_WITHOUT_ALIAS else DEFAULT_DB_ALIAS
