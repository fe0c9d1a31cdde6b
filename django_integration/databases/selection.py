"""Which aliases a function or a command is about."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, router

from tailrace.django_integration.routers.labels import LegacyRouter
from tailrace.django_integration.routers.replica import replica_aliases
from tailrace.django_integration.routers.telemetry import telemetry_aliases


def select_aliases(wanted: Iterable[str] | None = None) -> list[str]:
    """Return the aliases that were asked for, or all of them, ``default`` first.

    Raises:
        ImproperlyConfigured: names an alias that there is not, and those that there are.
    """
    known = sorted(connections.settings, key=lambda alias: (alias != DEFAULT_DB_ALIAS, alias))
    chosen = list(dict.fromkeys(wanted)) if wanted else known
    for alias in chosen:
        if alias not in connections.settings:
            raise ImproperlyConfigured(
                f"There is no database {alias!r}. DATABASES has: {', '.join(known)}."
            )
    return chosen


def legacy_aliases() -> set[str]:
    """List the aliases that an installed ``LegacyRouter`` keeps from being migrated."""
    return {
        alias
        for peer in router.routers
        if isinstance(peer, LegacyRouter)
        for alias in peer.rules.values()
        if peer.is_dedicated(alias)
    }


def writable_aliases(wanted: Iterable[str] | None = None) -> list[str]:
    """Return the selected aliases without replicas and without databases that others own."""
    spared = replica_aliases() | legacy_aliases()
    return [alias for alias in select_aliases(wanted) if alias not in spared]


def essential_aliases() -> set[str]:
    """List the aliases without which a web process cannot serve.

    Reads of a replica go to its primary while it is down, telemetry waits in Redis while its
    database is down, and neither should take a web process out of its load balancer.
    """
    optional = replica_aliases() | legacy_aliases()
    optional |= {alias for alias in telemetry_aliases() if alias != DEFAULT_DB_ALIAS}
    return {alias for alias in connections.settings if alias not in optional}
