"""Reads to replicas, writes to the primary, and never a stale read of one's own write."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import Model

from tailrace.django_integration.routers.base import (
    effective_alias,
    foreign_answer,
    is_at_claimed_home,
    is_loosely_linked,
    owner_of,
    require_aliases,
)
from tailrace.django_integration.routers.pins import has_written, note_write, watch_primary
from tailrace.django_integration.routers.pool import ReplicaPool

SETTING = "DATABASE_REPLICAS"
#: Share of reads that replicas get together where nobody gave weights.
REPLICA_SHARE_PERCENT = 80


class ReplicaRouter:
    """Spreads the reads of a primary over its replicas.

    A read stays on the primary inside ``atomic()``, after the unit of work has written (see
    ``pins``), and while no replica is fit. A replica that is down or lags is skipped; a read that
    is under way when its replica dies is repeated on the primary (see ``failover``).

    Args:
        weights: alias to weight, for example ``{"replica": 80, "default": 20}``; ``None`` reads
            ``DATABASE_REPLICAS = {"default": {"replica": 80, "default": 20}}``, and without that
            takes every alias with ``replica`` in its name, of the primary ``TEST["MIRROR"]``.
        primary: the alias that `weights` belong to.
        max_lag_seconds: a replica further behind is skipped.
        probe_interval_seconds: how long a measured lag is believed.
        retry_after_seconds: how long a replica that was down is left alone.

    Raises:
        ImproperlyConfigured: at first use, where an alias is not in ``DATABASES``.
    """

    #: How the alias routers know us without importing this module.
    splits_reads = True

    def __init__(
        self,
        weights: Mapping[str, int] | None = None,
        primary: str = DEFAULT_DB_ALIAS,
        *,
        max_lag_seconds: float = 5.0,
        probe_interval_seconds: float = 1.0,
        retry_after_seconds: float = 2.0,
    ) -> None:
        self._given = {primary: dict(weights)} if weights is not None else None
        self._make_pool = partial(
            ReplicaPool,
            max_lag_seconds=max_lag_seconds,
            probe_interval_seconds=probe_interval_seconds,
            retry_after_seconds=retry_after_seconds,
        )

    @cached_property
    def pools(self) -> dict[str, ReplicaPool]:
        """The pools by their primary."""
        layout = self._given or getattr(settings, SETTING, None) or _layout_of_databases()
        require_aliases([*layout, *(alias for pool in layout.values() for alias in pool)], SETTING)
        for primary in layout:
            watch_primary(primary)
        return {primary: self._make_pool(primary, weights) for primary, weights in layout.items()}

    @cached_property
    def _primary_of(self) -> dict[str, str]:
        return {alias: pool.primary for pool in self.pools.values() for alias in pool.replicas}

    def has_primary(self, alias: str) -> bool:
        """Say whether reads of `alias` are spread by this router."""
        return alias in self.pools

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Django's hook: a replica where that is safe, else the primary."""
        pool = self.pools.get(self._home(model, "db_for_read", hints) or "")
        if pool is None:
            return None
        connection = connections[pool.primary]
        if connection.in_atomic_block or not _is_autocommit(connection):
            return pool.primary
        if has_written(pool.primary):
            return pool.primary
        return pool.pick()

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """Django's hook: the primary, which the unit of work then keeps reading from."""
        home = self._home(model, "db_for_write", hints)
        if home not in self.pools:
            return None
        note_write(home)
        return home

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool | None:
        """Django's hook: rows of a primary and of its replicas are rows of one database."""
        first, second = (self._canonical(obj._state.db) for obj in (obj1, obj2))
        if first == second and first in self.pools:
            return True
        return True if is_loosely_linked(obj1.__class__, obj2.__class__) else None

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        """Django's hook: nothing is migrated on a replica; it gets its schema by replication."""
        if "target_db" in hints:
            return db == effective_alias(hints["target_db"])
        return False if db in self._primary_of else None

    def _canonical(self, alias: str | None) -> str | None:
        return self._primary_of.get(alias or "", alias)

    def _home(self, model: type[Model], method: str, hints: dict[str, Any]) -> str | None:
        """Name the alias that a model lives on, as if there were no replicas."""
        owner = owner_of(model._meta.app_label, model._meta.model_name)
        if owner is not None:
            return self._canonical(owner.alias_for(model, hints))
        alias = foreign_answer(method, self, model, **hints)
        if alias is not None:
            return self._canonical(alias)
        instance = hints.get("instance")
        if instance is None or instance._state.db is None or is_at_claimed_home(instance):
            return DEFAULT_DB_ALIAS
        return self._canonical(instance._state.db)


def _is_autocommit(connection: Any) -> bool:
    # get_autocommit() would open the connection only to ask; a closed one starts as configured.
    if connection.connection is None:
        return bool(connection.settings_dict.get("AUTOCOMMIT", True))
    return bool(connection.autocommit)


def _layout_of_databases() -> dict[str, dict[str, int]]:
    replicas: dict[str, list[str]] = {}
    for alias, config in connections.settings.items():
        mirror = config.get("TEST", {}).get("MIRROR")
        is_replica = "replica" in alias
        if is_replica and alias != DEFAULT_DB_ALIAS:
            replicas.setdefault(mirror or DEFAULT_DB_ALIAS, []).append(alias)
    return {
        primary: {
            **dict.fromkeys(aliases, REPLICA_SHARE_PERCENT),
            primary: (100 - REPLICA_SHARE_PERCENT) * len(aliases),
        }
        for primary, aliases in replicas.items()
    }


def replica_aliases() -> set[str]:
    """List every alias that an installed replica router only reads from."""
    return set(pools_by_replica())


def pools_by_replica() -> dict[str, ReplicaPool]:
    """Map every replica alias to the pool that it is read through."""
    return {
        alias: pool
        for peer in router.routers
        if isinstance(peer, ReplicaRouter)
        for pool in peer.pools.values()
        for alias in pool.replicas
    }
